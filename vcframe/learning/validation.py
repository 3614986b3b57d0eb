"""Judge the system on held-out pictures: real files, real decodes, never the virtual codec's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vcframe.codec import Codec, Image
from vcframe.images import to_image, to_tensor
from vcframe.learning.coded import MIN_NET_BITS, Coded, Describe, roundtrip
from vcframe.learning.phases import Workshop, network_describe, plain_describe
from vcframe.learning.sources import middle, to_channels
from vcframe.metrics import RatePoint, bd_rate, psnr, psnr_at_bpp
from vcframe.networks import upsample
from vcframe.networks.small import SmallPostProcessing
from vcframe.stream import coefficient_bytes

SIDE = 288
"""Validation looks at the middle of each picture, this many pixels a side."""
UNITS = (0.0, 0.08, 0.16, 0.25, 0.35, 0.5, 0.7)
"""Unit qualities at which the system is judged."""
JUDGED_BPP = 0.5
"""Curves are compared up to this rate of plain resampling: busy pictures would count to 2 bpp otherwise."""


@dataclass(frozen=True)
class Curve:
    """Rate-distortion points of every validation picture, by unit quality."""

    units: tuple[float, ...]
    points: tuple[tuple[RatePoint, ...], ...]
    net_bits: tuple[tuple[float, ...], ...]
    """Bits of every file net of a flat picture's file of that size and quality."""

    @property
    def mean_psnr_db(self) -> list[float]:
        """Mean PSNR at each unit quality."""
        return [float(np.mean([row[i].psnr_db for row in self.points])) for i in range(len(self.units))]

    @property
    def mean_bpp(self) -> list[float]:
        """Mean rate at each unit quality, whole files."""
        return [float(np.mean([row[i].bpp for row in self.points])) for i in range(len(self.units))]


def measure(workshop: Workshop, with_networks: bool) -> Curve:
    """Code and restore every validation picture; without networks: plain resampling and the unaided codec."""
    config = workshop.config
    describe = network_describe(workshop) if with_networks else plain_describe(config.scale)
    codec = workshop.room.codec if with_networks else workshop.room.codec.unaided()
    scale_of = codec.quality_scale
    units = UNITS if config.quality is None else (scale_of.unit(config.quality),)
    rows, bits = [], []
    pictures = [to_channels(middle(p, SIDE), config.channels) for p in workshop.source.validation]
    jobs = [(p, scale_of.native(u)) for p in pictures for u in units]
    coding = [workshop.room.threads.submit(_code, codec, describe, p, q) for p, q in jobs]
    results = []
    for (picture, quality), future in zip(jobs, coding, strict=True):
        coded = future.result()
        restored, added_bytes = _restore(workshop, coded, scale_of.unit(quality), picture, with_networks)
        num_bytes = coded.num_bytes + added_bytes
        bpp = 8 * num_bytes / (picture.shape[0] * picture.shape[1])
        point = RatePoint(quality, num_bytes, bpp, psnr(picture, restored), math.nan)
        results.append((point, coded.net_bits))
    for i in range(0, len(results), len(units)):
        row = results[i : i + len(units)]
        rows.append(tuple(point for point, _ in row))
        bits.append(tuple(net for _, net in row))
    return Curve(units, tuple(rows), tuple(bits))


def gain_percent(anchor: Curve, test: Curve) -> float | None:
    """Mean BD-rate over the pictures, for each up to `JUDGED_BPP`; None where no picture gives a number."""
    results = [_low_rate(a, t) for a, t in zip(anchor.points, test.points, strict=True)]
    numbers = [percent for percent in results if percent is not None]
    return float(np.mean(numbers)) if numbers else None


def _low_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float | None:
    high = psnr_at_bpp(anchor, JUDGED_BPP)
    if high is None:
        return bd_rate(anchor, test).percent
    return bd_rate(anchor, test, (-math.inf, high)).percent


def measured_slopes(curve: Curve) -> list[float]:
    """Slope `-d log(mse) / d log(net bits)` of the mean curve at each unit quality, kept in 0.05..1.5."""
    log_mse = [-math.log(10) / 10 * value for value in curve.mean_psnr_db]
    log_bits = np.log(np.maximum(curve.net_bits, MIN_NET_BITS)).mean(0)
    if len(log_bits) < 2 or (np.diff(log_bits) <= 0).any():
        return [0.8] * len(curve.units)
    return [float(s) for s in np.clip(-np.gradient(log_mse, log_bits), 0.05, 1.5)]


def _code(codec: Codec, describe: Describe, picture: Image, quality: float) -> Coded:
    return roundtrip(codec, describe(picture, codec.quality_scale.unit(quality)), quality)


def _restore(
    workshop: Workshop, coded: Coded, unit: float, picture: Image, with_networks: bool
) -> tuple[Image, int]:
    """The restored picture, and the bytes of the coefficients that an encoder would add."""
    size, post = (picture.shape[0], picture.shape[1]), workshop.networks.post
    d_BCHW, x_BCHW, unit_B = workshop.engine.to(
        to_tensor([coded.picture]), to_tensor([picture]), torch.tensor([unit])
    )
    with torch.inference_mode():
        if not with_networks:
            plain = upsample(d_BCHW, workshop.config.scale)
            return to_image(plain[0, :, : size[0], : size[1]].cpu()), 0
        if not isinstance(post, SmallPostProcessing) or post.adaptation is None:
            return to_image(post(d_BCHW, unit_B, size)[0].cpu()), 0
        features = post.features(d_BCHW, unit_B)
        area = (slice(0, d_BCHW.shape[-2]), slice(0, d_BCHW.shape[-1]))
        (moments,) = post.moments(features, d_BCHW, unit_B, x_BCHW, area)
        levels = moments.coefficients(post.adaptation.directions, coded.num_bytes)
        coefficients = [torch.tensor([levels], dtype=torch.float32, device=d_BCHW.device)] if levels else []
        restored = post.finish(features, d_BCHW, unit_B, size, *coefficients)
        return to_image(restored[0].cpu()), coefficient_bytes(len(levels))


def interpolate(units: Sequence[float], values: Sequence[float], unit: float) -> float:
    """Piecewise linear through `(units, values)`, constant outside."""
    return float(np.interp(unit, units, values))

"""How well a virtual codec stands in for the real one: pixels, bits, and the derivatives that training uses.

Everything is measured against real files and real decodes, beside simple stand-ins under the same conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcframe.codec import Image
from vcframe.images import to_tensor
from vcframe.learning.coded import CodingRoom
from vcframe.learning.objective import MIN_MSE, mse_per_picture
from vcframe.learning.sources import middle

VirtualCodecFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(x_BCHW in 0..1, unit_quality_B)` to `(decoded_BCHW, bits_B)`."""
Floats = npt.NDArray[np.float64]
Way = Literal["random", "learned"]

STEP_LEVELS = 2.0
"""Root mean square of a perturbation, in grey levels."""
SIDE = 256
"""Derivatives are measured on the middle of each picture, this many pixels a side."""

CONVENTION = (
    "pixel: squared error against the real decoded picture over that of the picture itself, summed "
    "over the pictures of a quality, then averaged over the qualities; bits: |predicted / real - 1| "
    "over all pictures and qualities, of the bits net of a flat picture's file (net), and of the "
    "whole file, that flat file's length added to the prediction (file), where a stand-in's bits are "
    "first scaled by its best constant for each quality on these very pictures; rank: Spearman over "
    "all pictures and qualities, net bits per pixel; agreement: cosine, over all pictures and "
    "qualities, between predicted and real change of log(mse) against the unmoved picture and of "
    f"log(net bits), the real ones by central differences over perturbations of {STEP_LEVELS:g} grey "
    f"levels RMS on the middle {SIDE}x{SIDE}; random: white noise; learned: against each one's own "
    "gradient of the sum of both logarithms, with that sum's mean predicted and real change"
)


@dataclass(frozen=True)
class Spread:
    """Relative errors `|predicted / real - 1|`."""

    median: float
    p90: float


@dataclass(frozen=True)
class Agreement:
    """Predicted and real relative changes along perturbations; a cosine is None where all of one are zero."""

    error: float | None
    """Cosine of the changes of the coding error."""
    bits: float | None
    """Cosine of the changes of the net bits."""
    predicted: float
    """Mean predicted change of `log(mse) + log(bits)`."""
    real: float
    """Mean real change of it."""


@dataclass(frozen=True)
class Fidelity:
    """One virtual codec's figures; `CONVENTION` says how each is counted."""

    pixel: float
    pixel_by_quality: dict[str, float]
    bits_net: Spread
    bits_file: Spread
    bits_net_by_quality: dict[str, Spread]
    rank: float | None
    random: Agreement
    learned: Agreement


@dataclass(frozen=True)
class Move:
    """Relative changes of coding error and net bits along one perturbation."""

    predicted: tuple[float, float]
    real: tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """One picture at one quality; squared errors are sums over samples in 0..1."""

    quality: float
    num_pixels: int
    squared_error: float
    identity_error: float
    bits: float
    net_bits: float
    fixed_bits: float
    moves: dict[Way, Move]


def measure_fidelity(
    contenders: Mapping[str, VirtualCodecFunction],
    room: CodingRoom,
    pictures: Sequence[Image],
    qualities: Sequence[float],
    stand_ins: AbstractSet[str] = frozenset(),
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Fidelity]:
    """Measure virtual codecs on pictures, each at every quality; of those pixels and bits on the whole.

    Raises `CodecError` where the codec refuses a picture.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    jobs = [(picture, quality) for picture in pictures for quality in qualities]
    for number, (picture, quality) in enumerate(jobs):
        unit_B = torch.tensor([room.codec.quality_scale.unit(quality)])
        coded = room.roundtrip(picture, quality)
        x, real = to_tensor([picture]), to_tensor([coded.picture])
        probe = Probe(room, middle(picture, SIDE), quality)
        noise = probe.step(np.random.default_rng(number).normal(size=probe.picture.shape))
        along_noise = probe.real_change(noise)
        for name, virtual in contenders.items():
            with torch.no_grad():
                decoded, bits_B = virtual(x, unit_B)
            gradients = probe.gradients(virtual, unit_B)
            descent = probe.step(-(gradients[0] + gradients[1]))
            moves: dict[Way, Move] = {
                "random": Move(_along(gradients, noise), along_noise),
                "learned": Move(_along(gradients, descent), probe.real_change(descent)),
            }
            samples[name].append(
                Sample(
                    quality,
                    x.shape[-2] * x.shape[-1],
                    float((decoded - real).square().sum()),
                    float((x - real).square().sum()),
                    max(float(bits_B), 1.0),
                    coded.net_bits,
                    8.0 * room.fixed_bytes(picture.shape, quality),
                    moves,
                )
            )
        on_progress((number + 1) / len(jobs))
    return {name: summarise(rows, calibrated=name in stand_ins) for name, rows in samples.items()}


class Probe:
    """A picture at one quality, and what the codec makes of it when it is moved a little."""

    def __init__(self, room: CodingRoom, picture: Image, quality: float) -> None:
        self.room, self.picture, self.quality = room, picture, quality
        coded = room.roundtrip(picture, quality)
        self.x, self.real = to_tensor([picture]), to_tensor([coded.picture])

    def gradients(self, virtual: VirtualCodecFunction, unit_B: Tensor) -> tuple[Floats, Floats]:
        """Per grey level: of log(mse), through the real error as in training, and of log(bits)."""
        leaf = self.x.clone().requires_grad_()
        decoded, bits_B = virtual(leaf, unit_B)
        mse = mse_per_picture(self.real, self.x).clamp(min=MIN_MSE)
        through = 2 * (self.real - self.x) / (self.x.numel() * mse)
        (error,) = torch.autograd.grad(decoded, leaf, through, retain_graph=True)
        (bits,) = torch.autograd.grad(bits_B.log().sum(), leaf)
        return _per_level(error, self.picture), _per_level(bits, self.picture)

    def step(self, direction: Floats) -> Floats:
        """The direction in whole grey levels, `STEP_LEVELS` RMS, kept where it can be taken both ways."""
        size = float(np.sqrt(np.mean(direction**2)))
        levels = np.round(direction * (STEP_LEVELS / size)) if size > 0 else np.zeros_like(direction)
        room_B = np.minimum(self.picture, 255 - self.picture)
        return np.clip(levels, -room_B.astype(float), room_B)

    def real_change(self, step: Floats) -> tuple[float, float]:
        """Half the difference of log(mse) and of log(net bits) between a step forward and one back."""
        logs = []
        for moved in (self.picture + step, self.picture - step):
            coded = self.room.roundtrip(moved.astype(np.uint8), self.quality)
            mse = max(float(np.mean((coded.picture.astype(float) - self.picture) ** 2)) / 255**2, MIN_MSE)
            logs.append((np.log(mse), np.log(coded.net_bits)))
        return float(logs[0][0] - logs[1][0]) / 2, float(logs[0][1] - logs[1][1]) / 2


def summarise(samples: Sequence[Sample], calibrated: bool) -> Fidelity:
    """The figures of one virtual codec; `calibrated` scales its bits by the best constant of each quality."""
    at = {f"{s.quality:g}": [t for t in samples if t.quality == s.quality] for s in samples}
    scale = {
        quality: float(np.exp(np.mean([np.log(s.net_bits / s.bits) for s in rows]))) if calibrated else 1.0
        for quality, rows in at.items()
    }
    bits = {quality: [scale[quality] * s.bits for s in rows] for quality, rows in at.items()}
    net = {q: [b / s.net_bits for b, s in zip(bits[q], at[q], strict=True)] for q in at}
    file = [
        (b + s.fixed_bits) / (s.net_bits + s.fixed_bits)
        for q in at
        for b, s in zip(bits[q], at[q], strict=True)
    ]
    pixel = {
        q: sum(s.squared_error for s in rows) / max(sum(s.identity_error for s in rows), 1e-12)
        for q, rows in at.items()
    }
    predicted_bpp = [b / s.num_pixels for q in at for b, s in zip(bits[q], at[q], strict=True)]
    real_bpp = [s.net_bits / s.num_pixels for q in at for s in at[q]]
    return Fidelity(
        pixel=float(np.mean(list(pixel.values()))),
        pixel_by_quality=pixel,
        bits_net=spread([ratio for ratios in net.values() for ratio in ratios]),
        bits_file=spread(file),
        bits_net_by_quality={quality: spread(ratios) for quality, ratios in net.items()},
        rank=rank_correlation(predicted_bpp, real_bpp),
        random=agreement([s.moves["random"] for s in samples]),
        learned=agreement([s.moves["learned"] for s in samples]),
    )


def agreement(moves: Sequence[Move]) -> Agreement:
    """Cosines over all moves, and the mean changes of the sum of both logarithms."""
    predicted, real = (np.array([getattr(move, name) for move in moves]) for name in ("predicted", "real"))
    return Agreement(
        error=cosine_of(predicted[:, 0], real[:, 0]),
        bits=cosine_of(predicted[:, 1], real[:, 1]),
        predicted=float(predicted.sum(1).mean()),
        real=float(real.sum(1).mean()),
    )


def spread(ratios: Sequence[float]) -> Spread:
    """Median and 90th percentile of `|ratio - 1|`."""
    off = np.abs(np.array(ratios) - 1)
    return Spread(float(np.median(off)), float(np.percentile(off, 90)))


def cosine_of(a: Floats, b: Floats) -> float | None:
    """Cosine of the angle between two vectors; None where one is zero."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else None


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's; None where all values of one are equal."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    from scipy.stats import spearmanr  # as slow to import as PyTorch

    return float(spearmanr(a, b).statistic)


def _along(gradients: tuple[Floats, Floats], step: Floats) -> tuple[float, float]:
    return float((gradients[0] * step).sum()), float((gradients[1] * step).sum())


def _per_level(gradient_BCHW: Tensor, like: Image) -> Floats:
    values: Floats = gradient_BCHW[0].permute(1, 2, 0).double().numpy() / 255
    return values.reshape(like.shape)

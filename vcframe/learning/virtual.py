"""Fit a virtual codec alone, from pictures: a supervised problem, with the crops coded ahead in threads."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import torch

import vcframe
from vcframe.codec import Image
from vcframe.images import write_bytes
from vcframe.learning.coded import CodedPool, Describe
from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import Optimiser, take_step
from vcframe.learning.fidelity import measure_fidelity
from vcframe.learning.loop import REPORT, Progress, Run, TrainResult, fit
from vcframe.learning.phases import Phase, StepResult, Workshop, plain_describe, virtual_codec_loss
from vcframe.learning.sources import middle, to_channels
from vcframe.learning.validation import SIDE
from vcframe.registry import Registry
from vcframe.virtual import VirtualCard, VirtualCodec

VIRTUAL = "virtual.safetensors"


def fit_virtual(
    config: TrainConfig, registry: Registry, on_progress: Callable[[Progress], None]
) -> TrainResult:
    """Fit one virtual codec and leave `virtual.safetensors`, `report.json` and `config.json` in `config.out`.

    Resumes, stops and raises as `fit` does. The file's card holds the fidelity on the held-out pictures.
    """
    return fit(config, registry, on_progress, VirtualRun)


class VirtualRun(Run):
    """A run that ends with a virtual codec instead of a model."""

    def _make_phase(self) -> Phase:
        return VirtualPhase(self.shop)

    def _write_result(self) -> TrainResult:
        config, state, shop = self.config, self.state, self.shop
        network = shop.networks.virtual.to("cpu").eval()
        pictures = [to_channels(middle(p, SIDE), config.channels) for p in shop.source.validation]
        described = [plain_describe(config.scale)(picture, 0.0) for picture in pictures]
        qualities = shop.room.codec.quality_scale.sweep[::2]

        def show(fraction: float) -> None:
            self.on_progress(dataclasses.replace(self._progress("fidelity", ""), fraction=fraction))

        measured = measure_fidelity({"virtual": network}, shop.room, described, qualities, on_progress=show)
        training = {
            "data": shop.source.summary,
            "scale": config.scale,
            "steps": state.total_steps,
            "minutes": round(state.elapsed_s / 60, 2),
            "seed": config.seed,
        }
        card = VirtualCard(
            codec=config.codec,
            codec_version=shop.room.codec.version(),
            channels=config.channels,
            training=training,
            fidelity=dataclasses.asdict(measured["virtual"]),
            vcframe_version=vcframe.__version__,
        )
        virtual = VirtualCodec(card, network)
        virtual.save(config.out / VIRTUAL)
        report = {"virtual": virtual.id, **training, "fidelity": card.fidelity, "torch": torch.__version__}
        write_bytes(config.out / REPORT, json.dumps(report, indent=1).encode())
        return TrainResult(config.out / VIRTUAL, report)


class VirtualPhase:
    """Learn the coding error and the bits of plain descriptions, some of them lightly perturbed."""

    def __init__(self, workshop: Workshop) -> None:
        config = workshop.config
        self.shop = workshop
        describe = varied_describe(plain_describe(config.scale))
        self.pool = CodedPool(workshop.room, workshop.source, describe, config, key=0)
        self.optimisers = {"virtual": Optimiser(workshop.networks.virtual.parameters(), config.learning_rate)}

    def step(self, step: int, factor: float) -> StepResult:
        batch, engine = self.pool.batch(step), self.shop.engine
        description, decoded, unit_B, net_bits_B = engine.to(
            batch.description, batch.decoded, batch.unit_B, batch.net_bits_B
        )
        with engine.autocast():
            virtual, bits_B = self.shop.networks.virtual(description, unit_B)
        loss, pixel, bits = virtual_codec_loss(
            virtual.float(), bits_B.float(), description, decoded, net_bits_B
        )
        loss.backward()  # type: ignore[no-untyped-call]
        take_step(self.optimisers, loss, factor)
        return StepResult(loss.item(), f"error {pixel:.2f} of identity's, bits {100 * bits:.0f} % off")


def varied_describe(describe: Describe) -> Describe:
    """Every other description sharpened or softened a little, with noise.

    A description network moves away from plain pictures, and the virtual codec's derivatives are used there.
    How a picture is varied follows from its own samples, so that a resumed run sees the same.
    """

    def varied(picture: Image, unit: float) -> Image:
        description = describe(picture, unit)
        rng = np.random.default_rng(zlib.crc32(picture.tobytes()))
        if rng.random() < 0.5:
            return description
        levels = description.astype(np.float32)
        detail = levels - cv2.GaussianBlur(levels, (0, 0), rng.uniform(0.5, 2.0))
        levels += rng.uniform(-0.6, 0.6) * detail + rng.normal(0, rng.uniform(0, 3), levels.shape)
        return np.clip(levels.round(), 0, 255).astype(np.uint8)

    return varied

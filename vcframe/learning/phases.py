"""The phases of training. A phase's `step` does maths only: files, prints and clocks live in the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vcframe.codec import Image
from vcframe.images import to_image, to_tensor
from vcframe.learning.coded import Coded, CodedPool, CodingRoom, Describe, draw_quality
from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import Engine, Optimiser, take_step
from vcframe.learning.objective import (
    content_and_gradient,
    dssim,
    mse_per_picture,
    rate_distortion,
    relative_dssim,
    relative_mse,
)
from vcframe.learning.sources import PictureSource, to_channels
from vcframe.networks import Networks, downsample, round_to_8_bit
from vcframe.networks.adaptation import STEP
from vcframe.networks.small import SmallPostProcessing

GREY_SHARE = 0.125
"""Of the pictures that a colour network is trained on: grey ones have no colour noise to go by."""
LEAST_BPP = 0.02
"""Of crops that the post-processing network learns from: one of which the codec keeps next to nothing teaches
little, and at the lowest qualities they are many (measured on JPEG 2000, whose scale reaches 18 dB: the first
2,000 steps gain 5.5 % with them, 7.6 % without)."""
NEARLY_LOSSLESS_MSE = 2e-5
"""Coding errors below this (47 dB) need not be imitated any better."""


@dataclass(frozen=True)
class StepResult:
    """What one step reports."""

    loss: float
    text: str


@dataclass(frozen=True)
class Workshop:
    """What every phase works with."""

    config: TrainConfig
    engine: Engine
    room: CodingRoom
    source: PictureSource
    networks: Networks
    first: int = 0
    """Steps of earlier phases: generated pictures go on from there, without end."""


class Phase(Protocol):
    """A stretch of training with a fixed set of moving networks."""

    optimisers: dict[str, Optimiser]

    def step(self, step: int, factor: float) -> StepResult:
        """Take step number `step` of this phase at `factor` times the learning rate."""
        ...


def plain_describe(scale: int) -> Describe:
    """The description without a network: plain resampling."""

    def describe(picture: Image, unit: float) -> Image:
        if scale == 1:
            return picture
        return to_image(downsample(to_tensor([picture]), scale)[0])

    return describe


def network_describe(workshop: Workshop) -> Describe:
    """The description network as it is now."""
    network, engine = workshop.networks.description, workshop.engine

    def describe(picture: Image, unit: float) -> Image:
        with torch.inference_mode():
            x_BCHW, unit_B = engine.to(to_tensor([picture]), torch.tensor([unit]))
            return to_image(network(x_BCHW, unit_B)[0].cpu())

    return describe


def _pool(workshop: Workshop, describe: Describe, config: TrainConfig, key: int) -> CodedPool:
    """What the post-processing network is trained on, some of it grey."""
    grey_share = GREY_SHARE if config.channels == 3 else 0.0
    return CodedPool(
        workshop.room, workshop.source, describe, config, key, workshop.first, grey_share, LEAST_BPP
    )


class PostPhase:
    """Train the post-processing network on real decoded pictures; the description network stands still."""

    def __init__(self, workshop: Workshop, describe: Describe, key: int, learning_rate: float) -> None:
        self.shop = workshop
        self.pool = _pool(workshop, describe, workshop.config, key)
        self.optimisers = {"post": Optimiser(workshop.networks.post.parameters(), learning_rate)}

    def step(self, step: int, factor: float) -> StepResult:
        batch = self.pool.batch(step)
        x, decoded, unit_B, plain_mse_B = self.shop.engine.to(
            batch.original, batch.decoded, batch.unit_B, batch.plain_mse_B
        )
        size = (x.shape[-2], x.shape[-1])
        with self.shop.engine.autocast():
            restored = self.shop.networks.post(decoded, unit_B, size).float()
        if self.shop.config.schedule == "paper":
            loss = content_and_gradient(restored, x)
        else:
            loss = relative_mse(restored, x, plain_mse_B)
        loss.backward()  # type: ignore[no-untyped-call]
        take_step(self.optimisers, loss, factor)
        return StepResult(loss.item(), f"loss {loss.item():.4f}")


class AdaptationPhase:
    """Train the adaptation, and the network that it corrects with it.

    Each step works out the coefficients of whole crops as an encoder does, and moves directions and network
    so that these coefficients do more. Now and then only the first few are there, so that the first do most.
    """

    batch = 4

    def __init__(self, workshop: Workshop, describe: Describe, key: int) -> None:
        assert isinstance(workshop.networks.post, SmallPostProcessing)
        self.shop, self.key, self.post = workshop, key, workshop.networks.post
        whole = workshop.config.model_copy(update={"patch": workshop.config.crop, "batch": self.batch})
        self.pool = _pool(workshop, describe, whole, key)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(workshop.config.seed)
            self.adaptation = self.post.adaptation or self.post.make_adaptation()
        rate = workshop.config.learning_rate
        network = [*self.post.trunk.parameters(), *self.post.log_error.parameters()]
        # The network is trained already: smaller steps.
        self.optimisers = {
            "adaptation": Optimiser(self.adaptation.parameters(), rate),
            "post": Optimiser(network, 0.25 * rate),
        }

    def step(self, step: int, factor: float) -> StepResult:
        batch, engine = self.pool.batch(step), self.shop.engine
        x, decoded, unit_B, plain_mse_B = engine.to(
            batch.original, batch.decoded, batch.unit_B, batch.plain_mse_B
        )
        rng = np.random.default_rng([self.shop.config.seed, 5, self.key, step])
        most = self.adaptation.num_directions
        number = most if rng.random() < 0.5 else int(rng.integers(most // STEP)) * STEP
        size = (x.shape[-2], x.shape[-1])
        with engine.autocast():
            features = self.post.features(decoded, unit_B)
        with torch.no_grad(), engine.autocast():
            area = (slice(0, decoded.shape[-2]), slice(0, decoded.shape[-1]))
            moments = self.post.moments(features, decoded, unit_B, x, area)
        levels = [next(m.fits(self.adaptation.directions, [number]))[0] for m in moments]
        (coefficients_BK,) = engine.to(torch.tensor(levels, dtype=torch.float32))
        with engine.autocast():
            restored = self.post.finish(features, decoded, unit_B, size, coefficients_BK).float()
        loss = relative_mse(restored, x, plain_mse_B)
        if self.shop.config.dssim:
            loss = loss + self.shop.config.dssim * relative_dssim(restored, x)
        loss.backward()  # type: ignore[no-untyped-call]
        take_step(self.optimisers, loss, factor)
        return StepResult(loss.item(), f"loss {loss.item():.4f}")


class JointPhase:
    """Train all three networks together, the real codec always in the forward pass.

    The virtual codec carries gradients only: the post-processing network sees `real + (virtual -
    stop(virtual))`, whose value is the real decoded picture, and the objective's bits are the real file's.
    With `move_description=False` only the virtual codec learns, from what the description network emits.
    """

    def __init__(
        self, workshop: Workshop, key: int, slope: Callable[[float], float], move_description: bool
    ) -> None:
        self.shop, self.key, self.slope, self.move = workshop, key, slope, move_description
        networks, rate = workshop.networks, workshop.config.learning_rate
        self.optimisers = {"virtual": Optimiser(networks.virtual.parameters(), 0.5 * rate)}
        if move_description:
            # One is trained already, the other begins at a good classical operation: smaller steps.
            self.optimisers["post"] = Optimiser(networks.post.parameters(), 0.25 * rate)
            self.optimisers["description"] = Optimiser(networks.description.parameters(), 0.1 * rate)
        self.crops: dict[int, list[Future[tuple[Image, float]]]] = {}

    def step(self, step: int, factor: float) -> StepResult:
        engine, networks = self.shop.engine, self.shop.networks
        pictures, qualities = self._pictures(step)
        scale_of = self.shop.room.codec.quality_scale
        units = [scale_of.unit(q) for q in qualities]
        x, unit_B = engine.to(to_tensor(pictures), torch.tensor(units))

        with engine.autocast(), torch.set_grad_enabled(self.move):
            description = networks.description(x, unit_B).float()
        rounded = round_to_8_bit(description)
        coding = [
            self.shop.room.threads.submit(self.shop.room.roundtrip, to_image(y.cpu()), quality)
            for y, quality in zip(rounded.detach(), qualities, strict=True)
        ]
        # The virtual codec's forward pass runs while the real codec works.
        leaf = rounded.detach().requires_grad_()
        with engine.autocast():
            virtual, virtual_bits_B = networks.virtual(leaf, unit_B)
        virtual, virtual_bits_B = virtual.float(), virtual_bits_B.float()
        real, real_bits_B = self._collect(coding)

        text = ""
        loss = torch.zeros(())
        if self.move:
            decoded = real.clone().requires_grad_()
            with engine.autocast():
                restored = networks.post(decoded, unit_B, (x.shape[-2], x.shape[-1])).float()
            slope_B = self.shop.config.rate * torch.tensor([self.slope(u) for u in units], device=x.device)
            # Anchored bits: the value is the real file's, the relative change is the virtual codec's.
            bits_B = virtual_bits_B.detach().requires_grad_()
            anchored_B = bits_B * (real_bits_B / bits_B.detach())
            mse_B = mse_per_picture(restored, x)
            loss = rate_distortion(mse_B, anchored_B, slope_B)
            loss.backward()  # type: ignore[no-untyped-call]
            assert decoded.grad is not None
            assert bits_B.grad is not None
            (grad_y,) = torch.autograd.grad(
                [virtual, virtual_bits_B], [leaf], [decoded.grad, bits_B.grad], retain_graph=True
            )
            rounded.backward(grad_y)  # type: ignore[no-untyped-call]
            text = f"loss {loss.item():.4f}  "
        fidelity, pixel, bits = virtual_codec_loss(virtual, virtual_bits_B, leaf, real, real_bits_B)
        fidelity.backward()  # type: ignore[no-untyped-call]
        take_step(self.optimisers, loss + fidelity.detach(), factor)
        text += f"virtual: error {pixel:.2f} of identity's, bits {100 * bits:.0f} % off"
        return StepResult(loss.item() if self.move else fidelity.item(), text)

    def _pictures(self, step: int) -> tuple[list[Image], list[float]]:
        """This step's crops, cut in threads during the last one, and their qualities."""
        for ahead in (step, step + 1):
            if ahead not in self.crops:
                count = self.shop.config.joint_batch
                threads = self.shop.room.threads
                self.crops[ahead] = [threads.submit(self._draw, ahead, i) for i in range(count)]
        drawn = [self.shop.room.wait(future) for future in self.crops.pop(step)]
        return [picture for picture, _ in drawn], [quality for _, quality in drawn]

    def _draw(self, step: int, place: int) -> tuple[Image, float]:
        config = self.shop.config
        rng = np.random.default_rng([config.seed, 3, self.key, step, place])
        quality = draw_quality(self.shop.room.codec, config, rng)
        crop = self.shop.source.crop(self.shop.first + step, config.joint_crop, rng)
        return to_channels(crop, config.channels), quality

    def _collect(self, coding: Iterable[Future[Coded]]) -> tuple[Tensor, Tensor]:
        coded = [self.shop.room.wait(future) for future in coding]
        decoded = to_tensor([c.picture for c in coded])
        real, bits_B = self.shop.engine.to(decoded, torch.tensor([c.net_bits for c in coded]))
        return real, bits_B


def virtual_codec_loss(
    virtual: Tensor, virtual_bits_B: Tensor, description: Tensor, real: Tensor, real_bits_B: Tensor
) -> tuple[Tensor, float, float]:
    """How far the virtual codec is from the real one.

    Returns the loss, the squared pixel error over the one of the identity, and the mean relative error
    of the bits.
    """
    identity_B = mse_per_picture(description.detach(), real).clamp(min=NEARLY_LOSSLESS_MSE)
    pixel = (mse_per_picture(virtual, real) / identity_B).mean()
    log_ratio_B = virtual_bits_B.clamp(min=1.0).log() - real_bits_B.log()
    bits = F.smooth_l1_loss(log_ratio_B, torch.zeros_like(log_ratio_B), beta=0.1)
    relative = (log_ratio_B.detach().exp() - 1).abs().mean()
    return pixel + bits, pixel.item(), relative.item()


class PaperVirtualPhase:
    """The paper's virtual codec network: description before coding to the post-processed picture."""

    def __init__(self, workshop: Workshop, describe: Describe, key: int) -> None:
        self.shop = workshop
        self.pool = CodedPool(workshop.room, workshop.source, describe, workshop.config, key, workshop.first)
        rate = workshop.config.learning_rate
        self.optimisers = {"virtual": Optimiser(workshop.networks.virtual.parameters(), rate)}

    def step(self, step: int, factor: float) -> StepResult:
        batch, networks, engine = self.pool.batch(step), self.shop.networks, self.shop.engine
        description, decoded, unit_B = engine.to(batch.description, batch.decoded, batch.unit_B)
        size = (batch.original.shape[-2], batch.original.shape[-1])
        with engine.autocast():
            with torch.no_grad():
                target = networks.post(decoded, unit_B, size).float()
            imitation = restore_virtually(networks, description, unit_B, size)
        loss = content_and_gradient(imitation, target)
        loss.backward()  # type: ignore[no-untyped-call]
        take_step(self.optimisers, loss, factor)
        return StepResult(loss.item(), f"loss {loss.item():.4f}")


class PaperDescriptionPhase:
    """The paper's description step: through the frozen virtual codec, with DSSIM to the plain reduction."""

    def __init__(self, workshop: Workshop, key: int) -> None:
        self.shop, self.key = workshop, key
        rate = workshop.config.learning_rate
        if workshop.config.preset == "small":
            # It begins at a good classical operation: smaller steps, as in the joint phase.
            rate *= 0.1
        self.optimisers = {"description": Optimiser(workshop.networks.description.parameters(), rate)}

    def step(self, step: int, factor: float) -> StepResult:
        config, networks, engine = self.shop.config, self.shop.networks, self.shop.engine
        rng = np.random.default_rng([config.seed, 4, self.key, step])
        index = self.shop.first + step
        crops = [self.shop.source.crop(index, config.patch, rng) for _ in range(config.batch)]
        pictures = to_tensor([to_channels(crop, config.channels) for crop in crops])
        codec = self.shop.room.codec
        units = [codec.quality_scale.unit(draw_quality(codec, config, rng)) for _ in crops]
        x, unit_B = engine.to(pictures, torch.tensor(units))
        networks.virtual.requires_grad_(False)
        with engine.autocast():
            description = networks.description(x, unit_B).float()
            imitation = restore_virtually(networks, description, unit_B, (x.shape[-2], x.shape[-1]))
        structure = dssim(description, downsample(x, config.scale).clamp(0, 1)).mean()
        loss = content_and_gradient(imitation, x) + config.dssim * structure
        loss.backward()  # type: ignore[no-untyped-call]
        networks.virtual.requires_grad_(True)
        take_step(self.optimisers, loss, factor)
        return StepResult(loss.item(), f"loss {loss.item():.4f}  dssim {structure.item():.4f}")


def restore_virtually(
    networks: Networks, description: Tensor, unit_B: Tensor, size: tuple[int, int]
) -> Tensor:
    """The paper's virtual codec imitates codec and post-processing together."""
    out: Tensor = networks.virtual(description, unit_B, size)
    return out.float()

"""Pictures as the codec leaves them: whole crops coded by the real codec in threads, patches cut from them.

The codec must see in training what it sees in use: patches coded alone teach the wrong artefacts (a rate that
is allocated over the picture, borders, file headers). So whole crops are coded, and patches cut afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vcframe.codec import Codec, Image
from vcframe.images import as_colour, luma
from vcframe.learning.config import TrainConfig
from vcframe.learning.sources import PictureSource, to_channels
from vcframe.networks import upsample

_T = TypeVar("_T")

Describe = Callable[[Image, float], Image]
"""Picture and unit quality to the description that the codec sees."""

MIN_NET_BITS = 64.0
"""Net bits never count as less: a nearly empty file has no slope to learn from."""


@dataclass(frozen=True)
class Coded:
    """What the real codec made of one description."""

    picture: Image
    """Decoded, of the description's size and kind."""
    num_bytes: int
    """Length of the file."""
    net_bits: float
    """Bits of the file net of what any file of that size and quality costs."""


class CodingRoom:
    """The real codec behind threads: codes descriptions, and knows what an empty file costs."""

    def __init__(self, codec: Codec, num_threads: int = 2) -> None:
        self.codec = codec
        self.threads = ThreadPoolExecutor(num_threads)
        self.waited_s = 0.0
        """Seconds that the networks have waited for the codec."""

    def roundtrip(self, description: Image, quality: float) -> Coded:
        """What the codec makes of a description."""
        return roundtrip(self.codec, description, quality)

    def fixed_bytes(self, shape: tuple[int, ...], quality: float) -> int:
        """Length of the file of a flat picture of that size and quality: headers and tables."""
        return _flat_file_bytes(self.codec, shape, quality)

    def wait(self, future: Future[_T]) -> _T:
        """The result of a codec call, with the time spent waiting put on record."""
        start = time.perf_counter()
        result = future.result()
        self.waited_s += time.perf_counter() - start
        return result

    def close(self) -> None:
        """Let running calls end and start no more."""
        self.threads.shutdown(wait=True, cancel_futures=True)


def roundtrip(codec: Codec, description: Image, quality: float) -> Coded:
    """Code and decode; a codec without grey is given three equal channels."""
    grey = description.ndim == 2 and not codec.traits.grey
    decoded, num_bytes = codec.roundtrip(as_colour(description) if grey else description, quality)
    net_bits = 8.0 * (num_bytes - _flat_file_bytes(codec, description.shape, quality))
    return Coded(luma(decoded) if grey else decoded, num_bytes, max(net_bits, MIN_NET_BITS))


@lru_cache(maxsize=4096)
def _flat_file_bytes(codec: Codec, shape: tuple[int, ...], quality: float) -> int:
    if len(shape) == 2 and not codec.traits.grey:
        shape = (*shape, 3)
    return len(codec.encode(np.full(shape, 128, np.uint8), quality))


@dataclass(frozen=True)
class CodedCrop:
    """One crop as the codec left it; tensors are uint8 CHW."""

    original: Tensor
    description: Tensor
    decoded: Tensor
    unit: float
    plain_mse: float
    """Error of the plainly enlarged decoded picture over the whole crop, samples in 0..1."""
    net_bits: float
    """As in `Coded`, of the whole crop."""


@dataclass(frozen=True)
class CodedBatch:
    """Patches from coded crops, float32 BCHW in 0..1."""

    original: Tensor
    description: Tensor
    decoded: Tensor
    unit_B: Tensor
    plain_mse_B: Tensor
    net_bits_B: Tensor


class CodedPool:
    """Coded crops held ready while the description network stands still.

    Job k is a function of the seed, the phase and k; step t finds the same jobs in the pool whenever and
    however often the run was interrupted. New jobs are coded ahead in threads, so the networks do not wait.
    """

    ahead = 8
    first_fill = 128
    num_redraws = 3

    def __init__(
        self,
        room: CodingRoom,
        source: PictureSource,
        describe: Describe,
        config: TrainConfig,
        key: int,
        first: int = 0,
        grey_share: float = 0.0,
        least_bpp: float = 0.0,
    ) -> None:
        self.room, self.source, self.describe, self.config, self.key = room, source, describe, config, key
        self.first = first
        """Steps of earlier phases: generated pictures go on from there."""
        self.grey_share = grey_share
        """How many of the crops are coded as grey pictures and given to colour networks as a model does."""
        self.least_bpp = least_bpp
        """A crop of fewer net bits per coded pixel is drawn again, `num_redraws` times at most."""
        self.jobs_per_step = {"fast": 0.5, "medium": 0.25, "slow": 0.125}[room.codec.traits.speed]
        self.jobs: dict[int, Future[CodedCrop]] = {}

    def batch(self, step: int) -> CodedBatch:
        """The patches of one step."""
        newest = min(self.first_fill, self.config.pool) + int(step * self.jobs_per_step)
        oldest = max(0, newest - self.config.pool)
        for job in range(oldest, newest + self.ahead):
            if job not in self.jobs:
                self.jobs[job] = self.room.threads.submit(self._code, job)
        for job in [job for job in self.jobs if job < oldest]:
            del self.jobs[job]
        rng = np.random.default_rng([self.config.seed, 1, self.key, step])
        chosen = rng.integers(oldest, newest, self.config.batch)
        patches = [self._patch(self.room.wait(self.jobs[int(job)]), rng) for job in chosen]
        original, description, decoded = (
            torch.stack([patch[i] for patch in patches]).float().div_(255) for i in range(3)
        )
        crops = [self.jobs[int(job)].result() for job in chosen]
        unit_B = torch.tensor([crop.unit for crop in crops])
        plain_mse_B = torch.tensor([crop.plain_mse for crop in crops])
        net_bits_B = torch.tensor([crop.net_bits for crop in crops])
        return CodedBatch(original, description, decoded, unit_B, plain_mse_B, net_bits_B)

    def _patch(self, crop: CodedCrop, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        scale, side = self.config.scale, self.config.patch // self.config.scale
        top, left = (int(rng.integers(s - side + 1)) for s in crop.decoded.shape[-2:])
        small = (..., slice(top, top + side), slice(left, left + side))
        rows, columns = (slice(scale * start, scale * (start + side)) for start in (top, left))
        return crop.original[..., rows, columns], crop.description[small], crop.decoded[small]

    def _code(self, job: int) -> CodedCrop:
        rng = np.random.default_rng([self.config.seed, 2, self.key, job])
        for _ in range(1 + self.num_redraws):
            crop = self._draw(job, rng)
            if crop.net_bits >= self.least_bpp * crop.decoded[0].numel():
                break
        return crop

    def _draw(self, job: int, rng: np.random.Generator) -> CodedCrop:
        picture = to_channels(self.source.crop(self.first + job, self.config.crop, rng), self.config.channels)
        quality = draw_quality(self.room.codec, self.config, rng)
        unit = self.room.codec.quality_scale.unit(quality)
        grey = rng.random() < self.grey_share
        if grey:
            picture = as_colour(luma(picture))
        description = self.describe(picture, unit)
        coded = self.room.roundtrip(luma(description) if grey else description, quality)
        original, decoded = to_chw(picture), to_chw(as_colour(coded.picture) if grey else coded.picture)
        enlarged = upsample(decoded[None].float(), self.config.scale)[0]
        plain_mse = float(((enlarged - original.float()) / 255).square().mean())
        return CodedCrop(original, to_chw(description), decoded, unit, plain_mse, coded.net_bits)


def draw_quality(codec: Codec, config: TrainConfig, rng: np.random.Generator) -> float:
    """A quality from the whole sweep; the one quality of the paper schedule.

    The lower half of the sweep, where there is most to gain, is drawn three times as often as the upper; a
    virtual codec alone learns every piece of its tables alike (`FineQualityTable`).
    """
    if config.quality is not None:
        return codec.quality_scale.check(config.quality)
    shape = (0.5, 1.0) if config.schedule == "virtual" else (1.0, 2.0)
    return codec.quality_scale.native(float(rng.beta(*shape)))


def to_chw(image: Image) -> Tensor:
    """`(H, W, C)` or `(H, W)` to a uint8 CHW tensor of its own."""
    return torch.from_numpy(np.array(image[None] if image.ndim == 2 else image.transpose(2, 0, 1)))

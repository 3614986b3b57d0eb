"""How fast the networks run here, against what the machine can do and against networks of the literature.

python benchmarks/speed.py                                   # a table on the terminal
python benchmarks/speed.py --out benchmarks/results/speed.json

Every case runs once a round, the rounds follow each other, and medians are taken over rounds: a machine that
slows down slows all cases alike, so ratios hold. The peak is a dense 3x3 convolution of 64 channels, measured
in the same rounds. Codecs are not part of it.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import vcframe
from vcframe.codec import Image
from vcframe.images import write_bytes
from vcframe.memory import keep_freed_memory
from vcframe.model import Card, Model
from vcframe.networks import PRESETS, Preset, build_networks, count_macs, downsample, scales_of
from vcframe.networks.small import SmallPostProcessing

Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((512, 768), (1536, 2048))
LARGEST_OF_THE_HEAVY = 512 * 768
"""Pixels: networks beyond `HEAVY_MACS` are measured on the small size only."""
HEAVY_MACS = 100e3


@dataclass(frozen=True)
class Case:
    """Something to time: a network on one picture size."""

    name: str
    height: int
    width: int
    macs: float
    """Multiply-accumulates of one call."""
    run: Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds."""

    name: str
    threads: int
    height: int
    width: int
    kmacs_per_pixel: float
    seconds: float
    megapixels_per_second: float
    gmacs_per_second: float
    share_of_peak: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Time the networks.")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()], metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    keep_freed_memory()  # as the command line does
    timings: list[Timing] = []
    for threads in dict.fromkeys(given.threads):
        torch.set_num_threads(threads)
        timings += measure(cases(), threads, given.rounds)
    print(table(timings))
    if given.out:
        content = {
            "schema": "vcframe-speed",
            "rounds": given.rounds,
            "torch": torch.__version__,
            "machine": platform.platform(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "timings": [asdict(timing) for timing in timings],
        }
        write_bytes(given.out, json.dumps(content, indent=1).encode() + b"\n")
    return 0


def cases() -> list[Case]:
    """The peak first, then our networks at every preset, scale and size, then those of the literature."""
    found = [_peak()]
    for size in SIZES:
        for preset in PRESETS:
            for scale in scales_of(preset):
                found += _ours(preset, scale, size)
        found += [
            _case("DnCNN (17 layers, colour)", dncnn(), lambda size: (torch.rand(1, 3, *size),), size),
            _case("AR-CNN (luma)", arcnn(), lambda size: (torch.rand(1, 1, *size),), size),
        ]
    return [
        case
        for case in found
        if case.macs <= HEAVY_MACS * case.height * case.width
        or case.height * case.width <= LARGEST_OF_THE_HEAVY
    ]


def dncnn() -> nn.Module:
    """Zhang et al., "Beyond a Gaussian denoiser", 2017: depth 17, 64 channels, batch normalisation folded."""
    middle = [layer for _ in range(15) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), *middle, nn.Conv2d(64, 3, 3, padding=1))


def arcnn() -> nn.Module:
    """Dong et al., "Compression artifacts reduction by a deep convolutional network", 2015: 9-7-1-5."""
    return nn.Sequential(
        *(nn.Conv2d(1, 64, 9, padding=4), nn.ReLU()),
        *(nn.Conv2d(64, 32, 7, padding=3), nn.ReLU()),
        *(nn.Conv2d(32, 16, 1), nn.ReLU()),
        nn.Conv2d(16, 1, 5, padding=2),
    )


def measure(to_time: Sequence[Case], threads: int, rounds: int) -> list[Timing]:
    """Time the cases in rounds, after one call each to warm up; the first case is the peak."""
    seconds: dict[int, list[float]] = {i: [] for i in range(len(to_time))}
    with torch.inference_mode():
        for case in to_time:
            case.run()
        for _ in range(rounds):
            for i, case in enumerate(to_time):
                start = time.perf_counter()
                case.run()
                seconds[i].append(time.perf_counter() - start)
    medians = [statistics.median(seconds[i]) for i in range(len(to_time))]
    peak = to_time[0].macs / medians[0]
    return [
        Timing(
            case.name,
            threads,
            case.height,
            case.width,
            case.macs / (case.height * case.width) / 1e3,
            median,
            case.height * case.width / median / 1e6,
            case.macs / median / 1e9,
            case.macs / median / peak,
        )
        for case, median in zip(to_time, medians, strict=True)
    ]


def table(timings: Sequence[Timing]) -> str:
    """Markdown."""
    head = ["network", "threads", "size", "kMAC/pixel", "MP/s", "GMAC/s", "of peak"]
    rows = [
        [
            timing.name,
            str(timing.threads),
            f"{timing.width}x{timing.height}",
            f"{timing.kmacs_per_pixel:.1f}",
            f"{timing.megapixels_per_second:.2f}",
            f"{timing.gmacs_per_second:.1f}",
            f"{timing.share_of_peak:.0%}",
        ]
        for timing in timings
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def _peak() -> Case:
    network = nn.Conv2d(64, 64, 3, padding=1)
    return _case("dense 3x3, 64 channels", network, lambda size: (torch.rand(1, 64, *size),), (256, 384))


def _ours(preset: Preset, scale: int, size: Size) -> list[Case]:
    """As a model runs them: 8-bit pictures in and out, in tiles, and restored with coefficients."""
    networks = build_networks(preset, scale, block=8)
    coefficients = []
    if isinstance(networks.post, SmallPostProcessing):
        networks.post.make_adaptation()
        coefficients = [1] * 32
    card = Card(
        codec={"codec": "any"},
        codec_version="any",
        preset=preset,
        block=8,
        channels=1 if networks.channels == 1 else 3,
        training={scale: {}},
        vcframe_version=vcframe.__version__,
    )
    model = Model(card, {scale: networks})
    unit = 0.3
    noise = np.random.default_rng(0)

    def picture(size: Size) -> Image:
        shape = size if networks.channels == 1 else (*size, 3)
        return noise.integers(0, 256, shape, np.uint8)

    # Counted on a small picture of one tile.
    side = 64
    x = torch.rand(1, networks.channels, side, side)
    adapted = [torch.tensor([coefficients], dtype=torch.float32)] if coefficients else []
    given = downsample(x, scale), torch.tensor([unit]), (side, side), *adapted
    macs = count_macs(networks.description, x, torch.tensor([unit])), count_macs(networks.post, *given)
    describe_macs, restore_macs = (count * size[0] * size[1] / side**2 for count in macs)
    original = picture(size)
    decoded = picture((-(-size[0] // scale), -(-size[1] // scale)))
    label = f"{preset}, scale {'1' if scale == 1 else f'1/{scale}'}"
    return [
        Case(f"{label}: describe", *size, describe_macs, lambda: model.describe(original, unit, scale)),
        Case(
            f"{label}: restore",
            *size,
            restore_macs,
            lambda: model.restore(decoded, unit, scale, size, coefficients),
        ),
    ]


def _case(name: str, network: nn.Module, inputs: Callable[[Size], tuple[object, ...]], size: Size) -> Case:
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small = (64, 64)  # counting runs the network once
    macs = count_macs(network, *inputs(small)) * size[0] * size[1] / (small[0] * small[1])
    placed = functools.cache(lambda: [_channels_last(value) for value in inputs(size)])
    return Case(name, *size, macs, lambda: network(*placed()))


def _channels_last(value: object) -> object:
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


if __name__ == "__main__":
    raise SystemExit(main())

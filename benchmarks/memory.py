"""How much memory `vcframe decompress` takes, at its highest, for a large picture.

python benchmarks/memory.py                                    # a table on the terminal
python benchmarks/memory.py --out benchmarks/results/memory.json

Each case is the whole command in a process of its own, PNG written and all; the figure is the resident memory
that the system accounts it at the peak (`ru_maxrss`). The picture is a photograph repeated to the size. It is
coded from a plain reduction of it, so that making the file takes no network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from vcframe.images import write_bytes

UNIT = 0.4
"""Quality as the networks see it: 0 worst, 1 best."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Peak:
    """One run of `vcframe decompress`."""

    codec: str
    scale: int
    height: int
    width: int
    file_bytes: int
    peak_bytes: int
    threads: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the memory that restoring takes.")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 100], metavar="N")
    parser.add_argument("--codec", nargs="+", default=["jpeg"], metavar="NAME")
    parser.add_argument("--scale", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    peaks = recorded(given.out)
    for codec, scale, megapixels in itertools.product(given.codec, given.scale, given.megapixels):
        side = round(math.sqrt(megapixels * 1e6))
        if (codec, scale, side) not in [(peak.codec, peak.scale, peak.height) for peak in peaks]:
            peaks.append(measure(codec, scale, side))
            record(given.out, peaks)
    print(table(peaks))
    return 0


def recorded(path: Path | None) -> list[Peak]:
    """What a file of earlier results holds: a run that was stopped goes on where it was."""
    if path is None or not path.exists():
        return []
    return [Peak(**peak) for peak in json.loads(path.read_text())["peaks"]]


def record(path: Path | None, peaks: Sequence[Peak]) -> None:
    """Write the results so far; nothing without a file."""
    if path is not None:
        content = {
            "schema": "vcframe-memory",
            "machine": platform.platform(),
            "versions": {name: metadata.version(name) for name in ("torch", "pillow", "imagecodecs")},
            "peaks": [asdict(peak) for peak in peaks],
        }
        write_bytes(path, json.dumps(content, indent=1).encode() + b"\n")


def measure(codec: str, scale: int, side: int) -> Peak:
    """Code a square picture, restore it, and see what the latter took."""
    with tempfile.TemporaryDirectory() as folder:
        file, restored = Path(folder) / "file", Path(folder) / "restored.png"
        alone(make, file, codec, scale, side)
        peak, threads = alone(restore, file, restored)
        return Peak(codec, scale, side, side, file.stat().st_size, peak, threads)


def alone(function: Callable[..., Result], *args: object) -> Result:
    """Call in a fresh process: what was loaded here, or taken before, must not count."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, *args).result()


def table(peaks: Sequence[Peak]) -> str:
    """Markdown."""
    head = ["codec", "scale", "size", "file", "peak"]
    rows = [
        [
            peak.codec,
            "1" if peak.scale == 1 else f"1/{peak.scale}",
            f"{peak.width}x{peak.height}",
            f"{peak.file_bytes / 1e6:.2f} MB",
            f"{peak.peak_bytes / 1e9:.2f} GB",
        ]
        for peak in peaks
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def make(path: Path, codec_name: str, scale: int, side: int) -> None:
    """Write a file that the shipped model of the codec restores."""
    import numpy as np
    import PIL.Image

    from vcframe.demo import photograph
    from vcframe.model import find_model
    from vcframe.registry import Registry
    from vcframe.stream import NUM_LEVELS, Payload, pack

    codec = Registry.load().codec(codec_name)
    photo = photograph()
    repeats = math.ceil(side / photo.shape[0])
    picture = PIL.Image.fromarray(np.tile(photo, (repeats, repeats, 1))[:side, :side])
    coded = math.ceil(side / scale)
    reduced = np.array(picture.resize((coded, coded), PIL.Image.Resampling.BICUBIC))
    stream = codec.encode(reduced, codec.quality_scale.native(UNIT))
    trim = coded * scale - side
    payload = Payload(find_model(None, codec).id, scale, round(UNIT * (NUM_LEVELS - 1)), (trim, trim), False)
    path.write_bytes(pack(codec, stream, payload))


def restore(source: Path, target: Path) -> tuple[int, int]:
    """Run `vcframe decompress`; returns the peak of this process in bytes and the threads in use."""
    import torch

    from vcframe.cli import app

    app(["decompress", str(source), str(target), "--device", "cpu"], standalone_mode=False)
    return peak_bytes(), torch.get_num_threads()


def peak_bytes() -> int:
    """The most resident memory that this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    raise SystemExit(main())

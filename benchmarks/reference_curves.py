"""Whether our curves of plain codecs agree with curves that others measured, at equal settings.

python benchmarks/reference_curves.py kodak                                         # a table on the terminal
python benchmarks/reference_curves.py kodak --out benchmarks/results/reference_curves.json

The published figures, and the settings that they were measured with, are in `reference_curves.toml`. Exits
with 1 where a mean differs by more than 0.05 dB, or where a picture's curve does not reach a published rate.
With `--out`, a run that is stopped continues.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcframe.bench.sets import find_set, local_files
from vcframe.codec import Codec, Image, VcframeError
from vcframe.images import as_colour, luma, read_image, write_bytes
from vcframe.metrics import RatePoint, psnr, psnr_at_bpp
from vcframe.registry import Registry

REFERENCE = Path(__file__).with_suffix(".toml")
TOLERANCE_DB = 0.05


@dataclass(frozen=True)
class Curve:
    """One published curve, and how it is measured again."""

    name: str
    described: str
    """The published settings, in the words of the source."""
    codec: str
    options: dict[str, Any]
    qualities: list[float]
    points: list[tuple[float, float]]
    """Bits per pixel and mean luma PSNR in dB."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare curves of plain codecs with published ones.")
    parser.add_argument("images", type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--codec", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    try:
        reference = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))
        files = local_files(find_set(reference["set"]), given.images)
        results = recorded(given.out)
        agrees = True
        for curve in [Curve(**curve) for curve in reference["curve"]]:
            if given.codec is None or curve.codec in given.codec:
                for result in measured(curve, files, results.get(curve.name, {})):
                    results[curve.name] = result
                    record(given.out, reference["source"], results)
                print(table(curve, results[curve.name]))
                agrees &= all(row["agrees"] for row in results[curve.name]["rows"])
    except VcframeError as error:
        print(f"reference_curves: {error}", file=sys.stderr)
        return 2
    return int(not agrees)


def recorded(path: Path | None) -> dict[str, Any]:
    """The curves of an earlier run, by name."""
    return {} if path is None or not path.exists() else dict(json.loads(path.read_text())["curves"])


def record(path: Path | None, source: str, curves: Mapping[str, Any]) -> None:
    """Write the curves so far; nothing without a file."""
    if path is not None:
        content = {
            "schema": "vcframe-reference-curves",
            "source": source,
            "convention": "luma PSNR (full-range BT.601) of 8-bit pictures; rate of the whole file; each "
            "picture's curve read at the rate (PCHIP over log rate), then averaged over the pictures",
            "tolerance_db": TOLERANCE_DB,
            "machine": platform.platform(),
            "curves": curves,
        }
        write_bytes(path, json.dumps(content, indent=1).encode() + b"\n")


def measured(curve: Curve, files: Sequence[Path], before: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Measure a curve on the pictures: what is known after each of them, and compared after the last.

    What an earlier run recorded with the same codec is taken as it is.
    """
    codec = Registry.load().codec(curve.codec, **curve.options)
    same = {"config": codec.config(), "version": codec.version(), "qualities": list(curve.qualities)}
    images = dict(before["images"]) if before and all(before[key] == same[key] for key in same) else {}
    for path in files:
        if path.name not in images:
            image = luma(read_image(path))
            points = [measure(codec, image, quality) for quality in curve.qualities]
            images[path.name] = [[point.num_bytes, point.bpp, point.psnr_db] for point in points]
            yield {**same, "rows": [], "images": images}
    yield {**same, "rows": compared(curve.points, list(images.values())), "images": images}


def measure(codec: Codec, image: Image, quality: float) -> RatePoint:
    """Code luma `(H, W)`; a codec without grey gets three equal channels, and luma is taken of the result."""
    data = codec.encode(image if codec.traits.grey else as_colour(image), quality)
    restored = luma(codec.decode(data))
    return RatePoint(quality, len(data), 8 * len(data) / image.size, psnr(image, restored), math.nan)


def compared(
    published: Sequence[tuple[float, float]], images: Sequence[Sequence[tuple[int, float, float]]]
) -> list[dict[str, Any]]:
    """For every published (bpp, dB): each picture's curve of (bytes, bpp, dB) read there, and their mean.

    No mean, and no agreement, where a picture's curve does not reach that rate.
    """
    curves = [[RatePoint(0, *point, math.nan) for point in image] for image in images]
    rows = []
    for bpp, published_db in published:
        read = [psnr_at_bpp(curve, bpp) for curve in curves]
        reached = [value for value in read if value is not None]
        mean = math.fsum(reached) / len(reached) if reached and len(reached) == len(read) else None
        rows.append(
            {
                "bpp": bpp,
                "published_db": published_db,
                "measured_db": mean,
                "num_images": len(reached),
                "agrees": mean is not None and abs(mean - published_db) <= TOLERANCE_DB,
            }
        )
    return rows


def table(curve: Curve, result: Mapping[str, Any]) -> str:
    """One line for each rate."""
    lines = [f"{curve.name} ({curve.described}), ours: {result['config']['options'] or 'no options'}"]
    for row in result["rows"]:
        ours = f"reached by {row['num_images']} of {len(result['images'])} pictures only"
        if row["measured_db"] is not None:
            difference = row["measured_db"] - row["published_db"]
            ours = f"{row['measured_db']:.2f} dB, {difference:+.3f} dB"
        verdict = "" if row["agrees"] else "  DIFFERS"
        lines.append(f"  {row['bpp']:.2f} bpp: {row['published_db']:.2f} dB, ours {ours}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Runs for the tests of the analysis: rows whose curves are arithmetic, so that every delta is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vcframe.bench.rows import Row, Task

QUALITIES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
SLOPE = 0.2
"""Of the logarithm of the rate over PSNR in dB; with PSNR a line in log rate, deltas are closed forms."""


def psnr_of(quality: float) -> float:
    return 24 + quality / 5


def row(
    image: str,
    codec: str,
    method: str,
    quality: float,
    *,
    factor: float = 1.0,
    scale: int | None = None,
    repeat: int = 0,
    **changes: Any,
) -> Row:
    """A file of `factor` times the bytes of the common curve, `0.05 bpp * exp(0.2 * (dB - 26))`."""
    psnr = psnr_of(quality)
    bpp = factor * 0.05 * math.exp(SLOPE * (psnr - 26))
    # Large, so that whole bytes change no delta that is tested.
    fields: dict[str, Any] = {
        "height": 4000,
        "width": 6000,
        "num_bytes": round(bpp * 24e6 / 8),
        "metrics": {"psnr": psnr, "ssim": 1 - 10 ** (-psnr / 20)},
        "encode_s": 2.4,
        "decode_s": 1.2,
        "peak_bytes": 300 << 20,
    }
    config = {"codec": codec, "options": {}}
    task = Task(image, "0" * 64, codec, config, method, scale, quality, repeat)
    return Row(task, **(fields | changes))


def curve(image: str, codec: str, method: str, factor: float = 1.0, **changes: Any) -> list[Row]:
    return [row(image, codec, method, quality, factor=factor, **changes) for quality in QUALITIES]


def failure(image: str, codec: str, method: str, quality: float, reason: str) -> Row:
    return Row(
        Task(image, "0" * 64, codec, {"codec": codec, "options": {}}, method, None, float(quality)),
        error=reason,
    )


def write_run(
    folder: Path, rows: Iterable[Row], codecs: Sequence[str] = ("jpeg", "webp"), **about: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": 1,
        "suite": {
            "name": "made",
            "digest": "ab" * 32,
            "definition": {"codecs": {c: {} for c in codecs}},
        },
        "command": "vcframe bench run made --out made",
        "versions": {"vcframe": "0.1.0", "numpy": "2.4"},
        "machine": {"cpu": "made", "num_cores": 2, "system": "Linux", "num_threads": 1},
        "commit": "c0ffee",
        "models": {},
        "shard": None,
        "metrics": ["psnr", "ssim"],
    }
    (folder / "run.json").write_text(json.dumps(content | about))
    (folder / "rows.jsonl").write_text("".join(row.to_json() + "\n" for row in rows))
    return folder

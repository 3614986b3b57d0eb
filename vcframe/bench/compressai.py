"""Curves out of result files that CompressAI publishes, to be drawn beside ours.

A file is JSON with `name`, `description` and `results`, the latter lists of equal length: rates in bits per
pixel, metrics, seconds, each a mean over the pictures of a set at one quality. Source:
github.com/InterDigitalInc/CompressAI, folder results, as `python -m compressai.utils.eval_model` prints them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcframe.codec import UsageError

METRICS = {"psnr": "psnr", "psnr-rgb": "psnr", "ms-ssim": "ms_ssim", "ms-ssim-rgb": "ms_ssim"}
"""Their names for metrics, in older and newer files, and ours: PSNR over RGB in dB, MS-SSIM in 0..1."""


@dataclass(frozen=True)
class PublishedCurve:
    """Means over a set of pictures at several rates, ascending."""

    name: str
    description: str
    bpp: tuple[float, ...]
    metrics: dict[str, tuple[float, ...]]
    """By our name of the metric, in the order of `bpp`."""


def read_compressai(path: Path) -> PublishedCurve:
    """Read one file. Raises `UsageError` naming it and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content["results"]
        rates = _numbers(results["bpp"])
        metrics = {METRICS[name]: _numbers(values) for name, values in results.items() if name in METRICS}
        if not rates or min(rates) <= 0 or not metrics:
            raise ValueError("no rates above 0, or none of the metrics " + ", ".join(METRICS))
        if any(len(values) != len(rates) for values in metrics.values()):
            raise ValueError("lists of different lengths")
        if max(metrics.get("ms_ssim", [0.0])) > 1:
            raise ValueError("MS-SSIM above 1: it is to be given as it is, not in decibels")
        order = sorted(range(len(rates)), key=rates.__getitem__)
        return PublishedCurve(
            str(content.get("name") or path.stem),
            str(content.get("description", "")),
            tuple(rates[i] for i in order),
            {name: tuple(values[i] for i in order) for name, values in metrics.items()},
        )
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UsageError(f"{path} is no result file of CompressAI: {reason}") from error


def _numbers(values: Any) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("numbers that are not finite")
    return numbers

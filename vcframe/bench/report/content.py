"""What the page shows, as JSON: the scripts of the page draw it and work nothing out themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vcframe.bench.analysis import (
    CHOOSING,
    LEVELS,
    PLAIN,
    RANGES,
    Analysis,
    Comparison,
    MatchedPair,
    System,
)
from vcframe.bench.compressai import PublishedCurve
from vcframe.bench.deltas import Delta
from vcframe.bench.report.viewer import Viewer
from vcframe.metrics import RatePoint

LABELS = {
    "psnr": "RGB PSNR (dB)",
    "psnr_y": "luma PSNR (dB)",
    "psnr_611": "6:1:1 PSNR (dB)",
    "ssim": "SSIM (dB)",
    "ms_ssim": "MS-SSIM (dB)",
    "lpips": "LPIPS (dB)",
    "dists": "DISTS (dB)",
    "vmaf": "VMAF",
}
"""Of the axes: the scale on which the deltas are taken, which grows with quality."""


def page_content(analysis: Analysis, viewer: Viewer, published: Sequence[PublishedCurve]) -> dict[str, Any]:
    """Everything, ready for `json.dumps`; systems and pictures are named by their place in the lists."""
    systems = analysis.systems
    place = {system: number for number, system in enumerate(systems)}
    return {
        "metrics": [{"name": name, "label": LABELS.get(name, name)} for name in analysis.metrics],
        "ranges": list(RANGES),
        "images": analysis.images,
        "codecs": analysis.codecs,
        "methods": list(dict.fromkeys(system.method for system in systems)),
        "systems": [{"codec": system.codec, "method": system.method} for system in systems],
        "anchor": None if analysis.anchor is None else place[analysis.anchor],
        "means": {
            metric: [_line(analysis.mean_curve(system, metric)) for system in systems]
            for metric in analysis.metrics
        },
        "curves": {
            metric: [
                [_line(analysis.curves(metric)[system].get(image, ())) for image in analysis.images]
                for system in systems
            ]
            for metric in analysis.metrics
        },
        "published": [_published(curve) for curve in published],
        "comparisons": [_comparison(c, analysis.images, place) for c in analysis.comparisons],
        "matched": [
            {
                "system": place[system],
                "metric": metric,
                "rows": _matched(analysis.matched_pairs(system, metric)),
            }
            for system in systems
            if system.method != PLAIN
            for metric in analysis.metrics
        ],
        "speeds": [{**asdict(speed), "system": place[speed.system]} for speed in analysis.speeds],
        "viewer": {"views": [asdict(view) for view in viewer.views], "notes": viewer.notes},
    }


def headline(analysis: Analysis) -> str:
    """The result in one sentence: by the first metric, over the first range that has numbers."""
    metric = analysis.metrics[0]
    for name in RANGES:
        judged = [c for c in analysis.compared(metric, name) if c.rate.mean is not None]
        gains = [c for c in judged if c.system.method == CHOOSING and c.anchor == c.system.plain]
        others = [c for c in judged if c.system.method == PLAIN]
        if gains or others:
            subject = f"{CHOOSING} needs" if gains else "other plain codecs need"
            anchor = "the codec alone" if gains else str(analysis.anchor)
            where = "" if RANGES[name] is None else f" {name}"
            quality = LABELS.get(metric, metric).split(" (")[0]
            count = max(c.rate.num_images - c.rate.num_missing for c in gains or others)
            pictures = "on 1 picture" if count == 1 else f"means over {count} pictures"
            bytes_ = _bytes(gains or others)
            return f"At equal {quality}{where}, {subject} {bytes_} than {anchor}: {pictures}."
    return f"{len(analysis.run.measured)} files of {len(analysis.systems)} systems, with nothing to compare."


def _bytes(comparisons: Sequence[Comparison]) -> str:
    """`20.1 % (webp) to 30.3 % (jpeg) fewer bytes`."""
    means = sorted(((c.rate.mean or 0, c.system.codec) for c in comparisons), reverse=True)
    ends = list(dict.fromkeys((means[0], means[-1])))
    words = ["more" if mean > 0 else "fewer" for mean, _ in ends]
    parts = [f"{abs(mean):.1f} % ({codec})" for mean, codec in ends]
    if len(set(words)) == 1:
        return f"{' to '.join(parts)} {words[0]} bytes"
    return " to ".join(f"{part} {word}" for part, word in zip(parts, words, strict=True)) + " bytes"


def _line(points: Sequence[RatePoint]) -> list[list[float | None]]:
    """Rate, value, quality and scale of each point."""
    return [[_short(p.bpp), _short(p.psnr_db), p.quality, p.scale] for p in points]


def _published(curve: PublishedCurve) -> dict[str, Any]:
    lines = {
        metric: [
            [_short(bpp), _short(LEVELS.get(metric, float)(value)), None, None]
            for bpp, value in zip(curve.bpp, values, strict=True)
        ]
        for metric, values in curve.metrics.items()
    }
    return {"name": curve.name, "description": curve.description, "lines": lines}


def _comparison(c: Comparison, images: Sequence[str], place: dict[System, int]) -> dict[str, Any]:
    missing = Delta(None, "not measured")
    return {
        "system": place[c.system],
        "anchor": place[c.anchor],
        "metric": c.metric,
        "range": c.range,
        "rate": asdict(c.rate),
        "gain": asdict(c.gain),
        "rates": [_delta(c.rates.get(image, missing)) for image in images],
        "gains": [_delta(c.gains.get(image, missing)) for image in images],
    }


def _delta(delta: Delta) -> float | str | None:
    """The number, or the reason in its place."""
    return delta.reason if delta.value is None else _short(delta.value)


def _matched(pairs: Sequence[MatchedPair]) -> list[dict[str, float]]:
    """Means at each quality of the plain codec, by growing rate."""
    means = []
    for quality in {pair.anchor.quality for pair in pairs}:
        same = [pair for pair in pairs if pair.anchor.quality == quality]
        means.append(
            {
                "quality": quality,
                "num_pairs": len(same),
                "bpp": float(np.mean([pair.anchor.bpp for pair in same])),
                "percent": float(np.mean([pair.percent for pair in same])),
            }
        )
    return sorted(means, key=lambda mean: mean["bpp"])


def _short(value: float) -> float:
    """Six digits: a page of many curves is to stay small."""
    return float(f"{value:.6g}")

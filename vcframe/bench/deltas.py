"""Bjontegaard deltas of one picture by the `bjontegaard` package, and their distribution over pictures.

The rules of when there is a number at all (enough points on strictly monotone fronts, enough in common) are
those of `vcframe.metrics.bd_rate`; the number over the range that it finds is the package's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcframe.bench.evaluation import Span, bd_over
from vcframe.bench.extra import library
from vcframe.metrics import BD_MIN_POINTS, RatePoint, bd_rate, pareto_front

MIN_RATE_RATIO = 1.1
"""Least ratio between the ends of the rates that two curves share, for a BD-PSNR."""

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Delta:
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Distribution:
    """Of deltas over the pictures that have one; None where too few have.

    `low` and `high` bound the mean with 95 % confidence: percentile bootstrap over the pictures, seed 0.
    """

    num_images: int
    num_missing: int
    num_negative: int
    num_positive: int
    mean: float | None
    low: float | None
    high: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None


def rate_delta(anchor: Sequence[RatePoint], test: Sequence[RatePoint], span: Span | None) -> Delta:
    """BD-rate of `test` against `anchor` in per cent: PCHIP of log rate over PSNR.

    Averaged over the PSNR range that both cover, and the anchor between the two rates of `span` if given.
    """
    result = bd_rate(anchor, test) if span is None else bd_over(anchor, test, span)
    if result.percent is None:
        return Delta(None, result.reason)
    assert result.psnr_low is not None
    assert result.psnr_high is not None
    _, *curves = library("bjontegaard").bd_rate(*_samples(anchor, test), **_PCHIP)
    return Delta(100 * (10 ** _mean_difference(curves, result.psnr_low, result.psnr_high) - 1))


def psnr_delta(anchor: Sequence[RatePoint], test: Sequence[RatePoint], span: Span | None) -> Delta:
    """BD-PSNR of `test` against `anchor` in dB: PCHIP of PSNR over log rate.

    Averaged over the rates that both have, and that are in `span` if given.
    """
    fronts = pareto_front(anchor), pareto_front(test)
    if min(map(len, fronts)) < BD_MIN_POINTS:
        name, front = min(zip(("anchor", "test"), fronts, strict=True), key=lambda pair: len(pair[1]))
        return Delta(None, f"{name} curve has {len(front)} points, needs {BD_MIN_POINTS}")
    low = max(front[0].bpp for front in fronts)
    high = min(front[-1].bpp for front in fronts)
    if span is not None:
        low, high = max(low, span[0]), min(high, span[1])
    if high < MIN_RATE_RATIO * low:
        return Delta(None, f"curves share {low:.3f} to {max(low, high):.3f} bpp, needs a tenth more at least")
    _, *curves = library("bjontegaard").bd_psnr(*_samples(anchor, test), **_PCHIP)
    return Delta(_mean_difference(curves, math.log10(low), math.log10(high)))


def distribution(deltas: Sequence[Delta]) -> Distribution:
    """Mean with its bootstrap interval, quartiles and counts."""
    values = [delta.value for delta in deltas if delta.value is not None]
    counts = (
        len(deltas),
        len(deltas) - len(values),
        sum(value < 0 for value in values),
        sum(value > 0 for value in values),
    )
    if not values:
        return Distribution(*counts, None, None, None, None, None, None)
    quartiles = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Distribution(*counts, float(np.mean(values)), *_interval(values), *quartiles)


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None, None
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


_PCHIP: dict[str, Any] = {
    "method": "pchip",
    "require_matching_points": False,
    "interpolators": True,
    # The range in common has been judged already; the package would only warn.
    "min_overlap": 0,
}


def _samples(*curves: Sequence[RatePoint]) -> list[list[float]]:
    """Rates and PSNR of the fronts, in the order of the package's arguments."""
    fronts = [pareto_front(curve) for curve in curves]
    return [values for front in fronts for values in ([p.bpp for p in front], [p.psnr_db for p in front])]


def _mean_difference(curves: Sequence[Any], low: float, high: float) -> float:
    anchor, test = (float(curve.integrate(low, high)) for curve in curves)
    return (test - anchor) / (high - low)

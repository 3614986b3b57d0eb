"""What a metric is, distortion (PSNR, SSIM), rate-distortion curves and Bjontegaard rates.

Conventions: distortion over all samples of 8-bit pictures, so a colour PSNR is the RGB PSNR; rate is the
length of the whole file in bits per pixel of the original picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vcframe.codec import Image, UsageError

PSNR_CAP_DB = 100.0
"""What `psnr` gives for identical pictures, and its largest value."""

SSIM_MIN_SIDE = 11
"""The window's side in pixels; SSIM is not defined for smaller pictures."""

BD_MIN_POINTS = 3
"""Fewest points that a curve's Pareto front needs for a BD-rate."""

BD_MIN_OVERLAP_DB = 0.5
"""Smallest common PSNR interval for a BD-rate."""

BD_MAX_BPP = 0.30
"""Where the range of a BD-rate ends by default: at the anchor's PSNR at this rate."""


@dataclass(frozen=True)
class Metric:
    """How good a restored picture is, as one number; what a plugin returns from `vcframe_metrics`.

    Raises `UsageError` for a name that is not like `ms_ssim`, or a direction that is none.
    """

    name: str
    unit: str
    """`dB`; empty for a plain number."""
    better: Literal["higher", "lower"]
    measure: Callable[[Image, Image], float]
    """Called with the original and the restored picture, uint8 `(H, W, 3)` or `(H, W)`, both of one shape.
    NaN where the metric is not defined for pictures of that size. It imports its libraries when called."""
    unavailable: Callable[[], str | None] = lambda: None
    """Why it cannot run here, and what to install; None where it can."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+", self.name):
            raise UsageError(f"metric name {self.name!r} is not like 'ms_ssim' ([a-z0-9_]+)")
        if self.better not in ("higher", "lower"):
            raise UsageError(f"metric {self.name}: better={self.better!r} is neither 'higher' nor 'lower'")


@dataclass(frozen=True)
class RatePoint:
    """One coded picture: what it cost and how close it came."""

    quality: float
    num_bytes: int
    bpp: float
    psnr_db: float
    ssim: float
    scale: int | None = None
    """Original sides over coded sides where networks were used; None for the plain codec."""
    ms_ssim: float = math.nan
    """Multi-scale SSIM, NaN where it was not measured."""


@dataclass(frozen=True)
class BdResult:
    """A BD-rate in per cent (negative: the test needs fewer bits), or the reason why there is none.

    `psnr_low` and `psnr_high` bound the interval that was averaged over (or was found too short); they are
    None where a curve has too few points.
    """

    percent: float | None
    reason: str | None
    psnr_low: float | None
    psnr_high: float | None


def psnr(a: Image, b: Image) -> float:
    """PSNR in dB for a peak of 255, from the mean square over all samples; 100 dB at most.

    Raises `UsageError` if the shapes differ.
    """
    _check_pair(a, b)
    # In bands of rows: whole, the differences of 100 megapixels would take gigabytes.
    bands = (slice(top, top + 256) for top in range(0, a.shape[0], 256))
    mse = sum(int(np.square(a[rows].astype(np.int64) - b[rows]).sum()) for rows in bands) / a.size
    return PSNR_CAP_DB if mse == 0 else min(PSNR_CAP_DB, 10 * math.log10(255**2 / mse))


def ssim(a: Image, b: Image) -> float:
    """Structural similarity, at most 1; colour is the mean over the three channels.

    Wang, Bovik, Sheikh and Simoncelli (2004): Gaussian window 11x11 of sigma 1.5, K1 = 0.01, K2 = 0.03, by
    scikit-image. NaN for pictures with a side under 11 pixels, which hold no whole window.
    Raises `UsageError` if the shapes differ.
    """
    import skimage.metrics

    _check_pair(a, b)
    if min(a.shape[:2]) < SSIM_MIN_SIDE:
        return math.nan
    structural_similarity: Callable[..., Any] = skimage.metrics.structural_similarity
    value = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if a.ndim == 3 else None,
    )
    return float(value)


def pareto_front(points: Iterable[RatePoint]) -> list[RatePoint]:
    """The points that no other beats in both rate and PSNR, by growing rate; both are strictly monotone."""
    front: list[RatePoint] = []
    for point in sorted(points, key=lambda point: (point.bpp, -point.psnr_db)):
        if not front or point.psnr_db > front[-1].psnr_db:
            front.append(point)
    return front


def best_of(curves: Iterable[Sequence[RatePoint]]) -> list[RatePoint]:
    """The points of several systems' curves that no other system's curve passes above, by growing rate.

    This is what an encoder that chooses between the systems has. The Pareto front of all points together
    would be less: a point below another curve, but between two of its points, would stay and pull it down.
    """
    fronts = [pareto_front(curve) for curve in curves]
    kept = []
    for own in fronts:
        others = [front for front in fronts if front is not own]
        for point in own:
            rivals = [psnr_at_bpp(front, point.bpp) for front in others]
            if all(rival is None or rival <= point.psnr_db for rival in rivals):
                kept.append(point)
    return pareto_front(kept)


def bd_rate(
    anchor: Sequence[RatePoint], test: Sequence[RatePoint], psnr_range: tuple[float, float] | None = None
) -> BdResult:
    """Mean rate difference of `test` against `anchor` at equal PSNR (Bjontegaard, VCEG-M33).

    Each curve is first reduced to its Pareto front. The logarithm of the rate is interpolated as a function
    of PSNR by a monotone piecewise cubic (PCHIP) and averaged over the PSNR interval that both curves cover,
    cut to `psnr_range` (low, high) in dB. No number, but a reason, if a front has fewer than 3 points or the
    interval is shorter than 0.5 dB.
    """
    fronts = {"anchor": pareto_front(anchor), "test": pareto_front(test)}
    for name, front in fronts.items():
        if len(front) < BD_MIN_POINTS:
            return BdResult(None, f"{name} curve has {len(front)} points, needs {BD_MIN_POINTS}", None, None)
    low = max(front[0].psnr_db for front in fronts.values())
    high = min(front[-1].psnr_db for front in fronts.values())
    if psnr_range is not None:
        low, high = max(low, psnr_range[0]), min(high, psnr_range[1])
    if high - low < BD_MIN_OVERLAP_DB:
        reason = f"curves share {max(high - low, 0):.2f} dB, needs {BD_MIN_OVERLAP_DB:g}"
        return BdResult(None, reason, low, high)
    anchor_area, test_area = (_log_rate(front).integrate(low, high) for front in fronts.values())
    return BdResult(100 * math.expm1(float(test_area - anchor_area) / (high - low)), None, low, high)


def psnr_at_bpp(points: Sequence[RatePoint], bpp: float) -> float | None:
    """PSNR of the curve's Pareto front at a rate, by PCHIP over the logarithm of the rate.

    None outside the front's rates: nothing is extrapolated.
    """
    from scipy.interpolate import PchipInterpolator

    front = pareto_front(points)
    if not front or not front[0].bpp <= bpp <= front[-1].bpp:
        return None
    if len(front) == 1:
        return front[0].psnr_db
    curve = PchipInterpolator(np.log([p.bpp for p in front]), [p.psnr_db for p in front])
    return float(curve(math.log(bpp)))


def _log_rate(front: Sequence[RatePoint]) -> Any:
    """Interpolator of the logarithm of the rate over PSNR."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator([p.psnr_db for p in front], np.log([p.bpp for p in front]))


def _check_pair(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    if a.shape != b.shape or a.size == 0:
        raise UsageError(f"cannot compare pictures of shapes {a.shape} and {b.shape}")

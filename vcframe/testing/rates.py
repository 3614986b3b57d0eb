"""Checks of the quality scale: bytes and likeness along the sweep."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np

from vcframe.codec import Codec, Image
from vcframe.testing import pictures
from vcframe.testing.failure import require

MIN_ERROR_RANGE = 10.0
"""By how much the mean squared error falls over the sweep, at least: 10 dB."""
MAX_STEP_SHARE = 0.3
MAX_STEPS = 24
MIN_DISTINCT = 0.8


def rate_grows(codec: Codec) -> None:
    """Files grow along the sweep, from the worst quality to the best."""
    for points in _sweeps(codec):
        for (low, smaller, _), (high, larger, _) in pairwise(points):
            require(
                smaller < larger, f"{smaller} bytes at quality {low:g}, {larger} bytes at the better {high:g}"
            )


def quality_grows(codec: Codec) -> None:
    """The error falls along the sweep, by 10 dB or more in all."""
    for points in _sweeps(codec):
        for (low, _, more), (high, _, less) in pairwise(points):
            require(
                less < more,
                f"mean squared error {more:.3g} at quality {low:g}, {less:.3g} at the better {high:g}",
            )
        ratio = points[0][2] / max(points[-1][2], 1e-9)
        require(ratio >= MIN_ERROR_RANGE, f"the mean squared error falls by a factor of {ratio:.3g} only")


def sweep_is_even(codec: Codec) -> None:
    """No step of the sweep holds much more of the range of rates than the others."""
    for points in _sweeps(codec):
        steps = np.abs(np.diff(np.log([num_bytes for _, num_bytes, _ in points])))
        share = steps.max() / max(steps.sum(), 1e-9)
        allowed = max(MAX_STEP_SHARE, 2 / len(steps))
        low, high = (points[int(steps.argmax()) + i][0] for i in (0, 1))
        require(
            share <= allowed,
            f"{100 * share:.0f} % of the range lies between {low:g} and {high:g}; put entries between",
        )


def sizes_are_distinct(codec: Codec) -> None:
    """Nearly every step of the scale gives a file of another size."""
    steps = codec.quality_scale.steps()
    chosen = [
        steps[i] for i in np.linspace(0, len(steps) - 1, min(len(steps), MAX_STEPS)).round().astype(int)
    ]
    image = pictures.photograph()
    distinct = len({len(codec.encode(image, quality)) for quality in chosen})
    require(
        distinct >= MIN_DISTINCT * len(chosen),
        f"{len(chosen)} steps of the scale give {distinct} sizes; make the step or the range of it coarser",
    )


def unit_inverts(codec: Codec) -> None:
    """`quality_scale` maps every step to 0..1, rising with the likeness, and back to itself."""
    scale = codec.quality_scale
    units = [scale.unit(quality) for quality in scale.steps()]
    require(units[0] == 0 and units[-1] == 1, f"the scale runs over {units[0]:g}..{units[-1]:g}, not 0..1")
    require(all(a < b for a, b in pairwise(units)), "the unit values do not rise from worst to best")
    for quality, unit in zip(scale.steps(), units, strict=True):
        require(scale.native(unit) == quality, f"{quality:g} became {unit:g} and then {scale.native(unit):g}")


CHECKS = (rate_grows, quality_grows, sweep_is_even, sizes_are_distinct, unit_inverts)


def _sweeps(codec: Codec) -> list[list[tuple[float, int, float]]]:
    """Along the sweep `(quality, bytes, mean squared error)`, in colour and, where it is coded, in grey."""
    return [_sweep(codec, grey) for grey in ((False, True) if codec.traits.grey else (False,))]


@functools.lru_cache(maxsize=2)
def _sweep(codec: Codec, grey: bool) -> list[tuple[float, int, float]]:
    image = pictures.busy(grey)
    points = []
    for quality in codec.quality_scale.sweep:
        decoded, num_bytes = codec.roundtrip(image, quality)
        points.append((quality, num_bytes, _mean_squared_error(image, decoded)))
    return points


def _mean_squared_error(a: Image, b: Image) -> float:
    return float(np.square(a.astype(np.float64) - b).mean())

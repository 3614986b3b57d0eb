"""What follows from the rows of a run: curves, Bjontegaard deltas, matched pairs, times.

A system is a codec with a method. Each is compared, picture by picture, with the plain codec that it uses and
with the plain codec that all are compared with. Where a method has several scales, its curve is the upper
envelope of theirs; the encoder of `vcframe` may take the codec's own file too.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vcframe.bench.deltas import Delta, Distribution, distribution, psnr_delta, rate_delta
from vcframe.bench.evaluation import Span, choice_of
from vcframe.bench.rows import Row
from vcframe.bench.runs import Run
from vcframe.codec import UsageError
from vcframe.metrics import RatePoint, pareto_front

PLAIN = "plain"
CHOOSING = "vcframe"
"""The method whose encoder also has the codec's own file to choose from."""

RANGES: Mapping[str, Span | None] = {
    "up to 0.3 bpp": (0.0, 0.30),
    "0.3 to 0.8 bpp": (0.30, 0.80),
    "all rates": None,
}
"""Rates of the plain codec between which the deltas are taken; None for all that both curves cover."""

CONVENTION = (
    "Rate: the whole file with payload, in bits per pixel of the original. Deltas per picture against the "
    "anchor: PCHIP of log rate over the metric (package bjontegaard) on upper envelopes, over what both "
    "curves cover within the range, at least 3 points and 0.5 units of the metric in common. SSIM and "
    "MS-SSIM as -10 log10(1 - x), LPIPS and DISTS as -10 log10(x), others where lower is better as -x. "
    "Means over pictures with a 95 % interval by bootstrap over pictures."
)


def _of_similarity(value: float) -> float:
    return -10 * math.log10(max(1 - value, 1e-10))


def _of_distance(value: float) -> float:
    return -10 * math.log10(max(value, 1e-10))


LEVELS: Mapping[str, Callable[[float], float]] = {
    "ssim": _of_similarity,
    "ms_ssim": _of_similarity,
    "lpips": _of_distance,
    "dists": _of_distance,
}
"""How a metric's value becomes a number in decibels that grows with quality; others are taken as they are, or
with the sign turned where lower is better."""


@dataclass(frozen=True, order=True)
class System:
    """A codec, by its label in the suite, with a method."""

    codec: str
    method: str

    def __str__(self) -> str:
        return f"{self.method} {self.codec}"

    @property
    def plain(self) -> System:
        """The same codec without networks."""
        return System(self.codec, PLAIN)


Curves = Mapping[System, Mapping[str, Sequence[RatePoint]]]
"""Of each system, by picture: its choice of files."""


@dataclass(frozen=True)
class MatchedPair:
    """A file of the anchor, and the smallest of a system that is no worse: both real, nothing fitted."""

    image: str
    anchor: RatePoint
    test: RatePoint

    @property
    def percent(self) -> float:
        """Difference of the bytes, negative where the system needs fewer."""
        return 100 * (self.test.num_bytes / self.anchor.num_bytes - 1)


@dataclass(frozen=True)
class Comparison:
    """A system against an anchor by one metric over one range of rates, picture by picture."""

    system: System
    anchor: System
    metric: str
    range: str
    rates: Mapping[str, Delta]
    """BD-rate in per cent, by picture."""
    gains: Mapping[str, Delta]
    """BD-PSNR, or that of another metric in its decibels, by picture."""

    @functools.cached_property
    def rate(self) -> Distribution:
        """BD-rate over the pictures."""
        return distribution(list(self.rates.values()))

    @functools.cached_property
    def gain(self) -> Distribution:
        """BD-PSNR over the pictures."""
        return distribution(list(self.gains.values()))


@dataclass(frozen=True)
class Speed:
    """Medians over the files of a system, in seconds per megapixel of the original; None where not timed."""

    system: System
    num_files: int
    encode_s: float | None
    describe_s: float | None
    decode_s: float | None
    restore_s: float | None
    peak_bytes: int | None
    """Largest resident memory of a worker after a task of this system."""


class Analysis:
    """Everything that tables and the page show; each part is worked out when it is first asked for.

    `anchor` is the label of the plain codec that all are compared with; without one, the first of the suite.
    Raises `UsageError` for a label that the run does not have.
    """

    def __init__(self, run: Run, anchor: str | None = None) -> None:
        self.run = run
        rows = [group[0] for group in run.repeats]
        self.images = sorted({row.task.image for row in rows})
        self.metrics = _in_order(run.about.get("metrics", []), {name for row in rows for name in row.metrics})
        self.codecs = _in_order(_suite_codecs(run), {row.task.codec for row in rows})
        methods = _in_order([PLAIN, "post", "paper", CHOOSING], {row.task.method for row in rows})
        self.rows: dict[System, list[Row]] = {
            System(codec, method): found
            for codec in self.codecs
            for method in methods
            if (found := [r for r in rows if (r.task.codec, r.task.method) == (codec, method)])
        }
        plain = [system.codec for system in self.rows if system.method == PLAIN]
        if anchor is not None and anchor not in plain:
            raise UsageError(f"no plain codec {anchor!r} in this run; it has {', '.join(plain) or 'none'}")
        self.anchor = System(anchor or plain[0], PLAIN) if plain else None
        self._curves: dict[str, Curves] = {}
        self._compared: dict[tuple[str, str], list[Comparison]] = {}

    @property
    def systems(self) -> list[System]:
        """By codec as the suite has them, and then `plain` first."""
        return list(self.rows)

    def curves(self, metric: str) -> Curves:
        """Each system's choice of files for each picture, by growing rate; the metric stands in `psnr_db`."""
        if metric not in self._curves:
            level = self._level(metric)
            points = {system: _points(rows, metric, level) for system, rows in self.rows.items()}
            self._curves[metric] = {
                system: {
                    image: choice_of([*own, *self._own_files(system, image, points)])
                    for image, own in by_image.items()
                }
                for system, by_image in points.items()
            }
        return self._curves[metric]

    def _own_files(self, system: System, image: str, points: Curves) -> Sequence[RatePoint]:
        """The plain codec's files that the encoder of a system could take: of the same options."""
        plain = self.rows.get(system.plain)
        if system.method != CHOOSING or not plain or plain[0].task.config != self.rows[system][0].task.config:
            return ()
        return points[system.plain].get(image, ())

    @functools.cached_property
    def comparisons(self) -> list[Comparison]:
        """`compared` by every metric over every range."""
        return [c for metric in self.metrics for name in RANGES for c in self.compared(metric, name)]

    def compared(self, metric: str, name: str) -> list[Comparison]:
        """Every system against its own plain codec and against the common anchor, over one of `RANGES`."""
        if (metric, name) not in self._compared:
            curves = self.curves(metric)
            self._compared[metric, name] = [
                compare(curves[anchor], curves[system], system, anchor, metric, name)
                for system in self.systems
                for anchor in dict.fromkeys((system.plain, self.anchor))
                if anchor is not None and anchor in self.rows and anchor != system
            ]
        return self._compared[metric, name]

    def matched_pairs(self, system: System, metric: str) -> list[MatchedPair]:
        """Every file of the system's plain codec that a file of the system matches."""
        curves = self.curves(metric)
        pairs = []
        for image, anchor in curves.get(system.plain, {}).items():
            test = curves[system].get(image, ())
            for point in pareto_front(anchor):
                matches = [other for other in test if other.psnr_db >= point.psnr_db]
                if matches and test[0].psnr_db <= point.psnr_db:
                    pairs.append(MatchedPair(image, point, min(matches, key=lambda other: other.num_bytes)))
        return pairs

    def mean_curve(self, system: System, metric: str) -> list[RatePoint]:
        """Means over the pictures at equal quality, as papers draw them; of qualities that every picture has.

        Of several scales, the upper envelope of the means.
        """
        groups: dict[tuple[int | None, float], list[Row]] = {}
        for row in self.rows[system]:
            if metric in row.metrics:
                groups.setdefault((row.task.scale, row.task.quality), []).append(row)
        num_images = len({row.task.image for row in self.rows[system]})
        means = []
        for (scale, quality), rows in groups.items():
            if len(rows) == num_images:
                bpp, value, size = np.mean(
                    [[r.bpp or 0, r.metrics[metric], r.num_bytes or 0] for r in rows], axis=0
                )
                level = self._level(metric)(float(value))
                means.append(RatePoint(quality, round(size), float(bpp), level, math.nan, scale))
        return choice_of(means)

    def _level(self, metric: str) -> Callable[[float], float]:
        turned = metric in self.run.about.get("lower_is_better", ())
        return LEVELS.get(metric, operator.neg if turned else float)

    @functools.cached_property
    def speeds(self) -> list[Speed]:
        """Times and memory of every system; repeats of a task count once, by their median."""
        return [self._speed(system) for system in self.systems]

    def _speed(self, system: System) -> Speed:
        groups = [
            g
            for g in self.run.repeats
            if (g[0].task.codec, g[0].task.method) == (system.codec, system.method)
        ]
        peaks = [row.peak_bytes for group in groups for row in group if row.peak_bytes is not None]
        return Speed(
            system,
            len(groups),
            encode_s=_median(groups, "encode_s"),
            describe_s=_median(groups, "describe_s"),
            decode_s=_median(groups, "decode_s"),
            restore_s=_median(groups, "restore_s"),
            peak_bytes=max(peaks, default=None),
        )


def compare(
    reference: Mapping[str, Sequence[RatePoint]],
    test: Mapping[str, Sequence[RatePoint]],
    system: System,
    anchor: System,
    metric: str,
    name: str,
) -> Comparison:
    """Compare two systems' curves of the reference's pictures over one of `RANGES`."""
    rates, gains = {}, {}
    # In one order, whatever that of the rows: the bootstrap draws by place.
    for image, points in sorted(reference.items()):
        measured = test.get(image)
        missing = Delta(None, "not measured")
        rates[image] = rate_delta(points, measured, RANGES[name]) if measured else missing
        gains[image] = psnr_delta(points, measured, RANGES[name]) if measured else missing
    return Comparison(system, anchor, metric, name, rates, gains)


def _points(rows: Iterable[Row], metric: str, level: Callable[[float], float]) -> dict[str, list[RatePoint]]:
    points: dict[str, list[RatePoint]] = {}
    for row in rows:
        if metric in row.metrics and math.isfinite(row.metrics[metric]):
            assert row.num_bytes is not None
            assert row.bpp is not None
            point = RatePoint(
                row.task.quality, row.num_bytes, row.bpp, level(row.metrics[metric]), math.nan, row.task.scale
            )
            points.setdefault(row.task.image, []).append(point)
    return points


def _median(groups: Sequence[Sequence[Row]], name: str) -> float | None:
    """Median over tasks of the medians over repeats, per megapixel."""
    medians = []
    for group in groups:
        times = [time for row in group if (time := getattr(row, name)) is not None]
        if times:
            medians.append(float(np.median(times)) * 1e6 / (group[0].height * group[0].width))
    return float(np.median(medians)) if medians else None


def _suite_codecs(run: Run) -> list[str]:
    """Labels of the codecs in the order of the suite, as far as it names them."""
    return list(
        run.about.get("suite", {}).get("definition", {}).get("codecs") or run.about.get("codecs") or ()
    )


def _in_order(known: Iterable[str], found: set[str]) -> list[str]:
    """What was found: first what is known, in its order, then the rest by name."""
    return [*(name for name in dict.fromkeys(known) if name in found), *sorted(found - set(known))]

"""The file that meets a target, in few calls of the codec: a bracketed secant search over its qualities.

The logarithm of the bytes, and the PSNR, are nearly straight lines over a codec's unit quality: the line
through the two best points known is right after two or three calls, and one more shows that the step behind
goes too far. Where a curve is no line, and two calls have not halved what is left, the next is in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from vcframe.codec import Image, UsageError
from vcframe.ways import Compressed, Way

EFFORTS = 1, 2, 3
"""How far a search goes: to within 1 % of the bytes or 0.05 dB; to the last step of the quality scale that
meets the target; and `NUM_NEIGHBOURS` steps past that one."""
DEFAULT_EFFORT = 2

# Bytes are only nearly monotone in quality: past the step where the search stops, so many more may still fit.
NUM_NEIGHBOURS = 3


@dataclass(frozen=True)
class Goal:
    """What a file is to be: exactly one of a quality and three targets. Raises `UsageError` otherwise."""

    quality: float | None = None
    """The codec's own number."""
    target_bytes: int | None = None
    """Most bytes of the whole file."""
    target_bpp: float | None = None
    """Most bits of the whole file per original pixel."""
    target_psnr: float | None = None
    """Least PSNR of the restored picture, in dB."""

    def __post_init__(self) -> None:
        targets = (self.target_bytes, "bytes"), (self.target_bpp, "bpp"), (self.target_psnr, "dB")
        given = [(value, unit) for value, unit in targets if value is not None]
        if len(given) + (self.quality is not None) != 1:
            raise UsageError("give either a quality or a target in bytes, in bits per pixel or in dB")
        for value, unit in given:
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"target {value:g} {unit} must be above 0")

    def target(self, image: Image) -> Target:
        """The target for this picture, where no quality is given."""
        if self.target_psnr is not None:
            return LeastPsnr(self.target_psnr)
        if self.target_bytes is not None:
            return MostBytes(self.target_bytes, f"{self.target_bytes} bytes")
        assert self.target_bpp is not None
        # A rate that was worked out from bytes stands for these bytes, however it was rounded.
        num_bytes = self.target_bpp * image.shape[0] * image.shape[1] / 8 + 1e-6
        return MostBytes(num_bytes, f"{self.target_bpp:g} bpp")


class Target(Protocol):
    """What a file has to meet, and which of several that meet it is the best."""

    slope: ClassVar[float]
    """How much `excess` changes over the unit quality, roughly: where a search begins."""
    slack: ClassVar[float]
    """How far below 0 the excess may stay for the search of effort 1."""

    def order(self, qualities: Sequence[float]) -> Sequence[float]:
        """Qualities, given worst first, so that the excess grows and the last that meets it is best."""

    def excess(self, coded: Compressed) -> float:
        """Above 0 where the file misses the target."""

    def best(self, met: Sequence[Compressed]) -> Compressed:
        """The best of files that meet it; the first of equals."""

    def refusal(self, nearest: Compressed) -> UsageError:
        """Say that no quality meets it; `nearest` comes nearest."""


@dataclass(frozen=True)
class MostBytes:
    """Of the files within so many bytes, the one that restores best."""

    num_bytes: float
    asked: str
    """The limit as it was given."""
    slope: ClassVar[float] = 4.0
    slack: ClassVar[float] = 0.01

    def order(self, qualities: Sequence[float]) -> Sequence[float]:
        return qualities

    def excess(self, coded: Compressed) -> float:
        return math.log((coded.num_bytes + coded.way.reserve_bytes) / self.num_bytes)

    def best(self, met: Sequence[Compressed]) -> Compressed:
        return max(met, key=lambda coded: coded.psnr_db)

    def refusal(self, nearest: Compressed) -> UsageError:
        return UsageError(
            f"{nearest.way.codec.name} cannot reach {self.asked} on this picture: the lowest is "
            f"{math.ceil(nearest.bpp * 1000) / 1000:.3f} bpp ({nearest.num_bytes} bytes)"
        )


@dataclass(frozen=True)
class LeastPsnr:
    """Of the files that restore to a PSNR, in dB, the smallest."""

    psnr_db: float
    slope: ClassVar[float] = 20.0
    slack: ClassVar[float] = 0.05

    def order(self, qualities: Sequence[float]) -> Sequence[float]:
        return qualities[::-1]

    def excess(self, coded: Compressed) -> float:
        return self.psnr_db - coded.adapted.psnr_db

    def best(self, met: Sequence[Compressed]) -> Compressed:
        return min(met, key=lambda coded: coded.num_bytes)

    def refusal(self, nearest: Compressed) -> UsageError:
        nearest = nearest.adapted
        return UsageError(
            f"{nearest.way.codec.name} cannot reach {self.psnr_db:g} dB on this picture: the highest is "
            f"{math.floor(nearest.psnr_db * 100) / 100:.2f} dB ({nearest.num_bytes} bytes)"
        )


def search(way: Way, target: Target, effort: int, quality: float | None) -> Compressed:
    """The adapted file at the last quality, in the target's order, that meets it; begins at `quality`."""
    scale = way.codec.quality_scale
    qualities = target.order(scale.steps())
    worst = scale.unit(qualities[0])
    positions = [abs(scale.unit(step) - worst) for step in qualities]
    start = 0.5 if quality is None else abs(scale.unit(quality) - worst)
    met: dict[int, Compressed] = {}
    missed: list[tuple[float, Compressed]] = []

    def excess(step: int) -> float:
        coded = way.compress(qualities[step])
        value = target.excess(coded)
        # Only what may still be wanted is kept: each has a picture with it.
        if value > 0:
            missed[:] = [min([*missed, (value, coded)], key=lambda pair: pair[0])]
        elif step > max(met, default=-1):
            met.clear()
            met[step] = coded
        return value

    last = last_step_within(excess, positions, start, target.slope, target.slack if effort == 1 else 0)
    if effort == max(EFFORTS):
        for step in range(last + 2, min(last + 2 + NUM_NEIGHBOURS, len(qualities))):
            excess(step)
    if not met:
        raise target.refusal(missed[0][1])
    return met[max(met)].adapted


def last_step_within(
    excess: Callable[[int], float],
    positions: Sequence[float],
    start: float,
    slope: float,
    slack: float = 0.0,
) -> int:
    """Return the last step whose excess is not above 0; -1 where even the first step's is.

    `excess(i)` grows, nearly, with the ascending `positions[i]`; it is called once for each step tried. The
    search begins at the step nearest to `start` and expects `slope` (above 0, excess per position) until it
    knows two points. It ends when the next step is known to exceed, or at a step whose excess is above
    `-slack`.
    """
    within, beyond = -1, len(positions)
    known: dict[int, float] = {}
    widths: list[int] = []
    step = _nearest(positions, start)
    while True:
        value = known[step] = excess(step)
        if value > 0:
            beyond = step
        else:
            within = step
        if beyond - within <= 1 or -slack < value <= 0:
            return within
        widths.append(beyond - within)
        step = (within + beyond) // 2
        if len(widths) < 3 or widths[-1] <= widths[-3] / 2:
            best = sorted(known, key=lambda tried: abs(known[tried]))[:2]
            wanted = _crossing([(positions[tried], known[tried]) for tried in best], slope)
            ends = [(positions[end], known[end]) for end in (within, beyond) if end in known]
            if len(ends) == 2 and not ends[0][0] < wanted < ends[1][0]:
                wanted = _crossing(ends, slope)
            step = _nearest(positions, wanted)
        step = min(max(step, within + 1), beyond - 1)


def _crossing(points: Sequence[tuple[float, float]], slope: float) -> float:
    """Where the line through two points, or through one with that slope, is 0."""
    (position, value), *others = points
    for other_position, other_value in others:
        # Bytes are only nearly monotone: a line that falls, or hardly rises, says nothing.
        measured = (other_value - value) / (other_position - position)
        slope = measured if measured > slope / 8 else slope
    return position - value / slope


def _nearest(positions: Sequence[float], wanted: float) -> int:
    return min(range(len(positions)), key=lambda step: abs(positions[step] - wanted))

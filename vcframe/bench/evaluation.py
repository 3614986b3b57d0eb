"""What an evaluation holds: the files of each picture, and the numbers that follow from them.

Rate is the length of the whole file, payload included, per pixel of the original. The BD-rate of a picture is
taken over the PSNR range that the plain codec covers between its lowest quality and a rate, and again from
there to the next rate where several are asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from vcframe.codec import UsageError
from vcframe.metrics import BdResult, RatePoint, bd_rate, best_of, pareto_front, psnr_at_bpp

SCHEMA = "vcframe-evaluation"
SCHEMA_VERSION = 4

FIXED_BPP = (0.05, 0.10, 0.15, 0.20, 0.30, 0.50, 0.80)
"""Rates of the table of mean PSNR, as far as was measured."""

Span = tuple[float, float]
"""Rates of the plain codec in bpp, lower and upper; 0 is its lowest quality, whatever rate that has."""


@dataclass(frozen=True)
class ImageRow:
    """One picture: both curves (worst quality first) and the BD-rate of vcframe against the plain codec.

    A picture that cannot be read or coded has empty curves, and the error as the reason in `bd`.
    """

    name: str
    sha256: str | None
    """Digest of the picture file."""
    height: int
    width: int
    plain: tuple[RatePoint, ...]
    vcframe: tuple[RatePoint, ...]
    """Every file that the encoder may choose from, scale by scale; `choice` is what it takes."""
    bd: BdResult
    covered: float | None = None
    """`covered_share` of the two curves."""
    bd_ssim: BdResult | None = None
    """The same BD-rate with SSIM in decibels, `-10 log10(1 - SSIM)`, in the place of PSNR."""
    bd_ms_ssim: BdResult | None = None
    """And with multi-scale SSIM, likewise in decibels."""

    def over(self, span: Span) -> ImageRow:
        """The same points with the BD-rate of the choice over another range."""
        plain, choice = self.plain, self.choice
        return replace(
            self,
            bd=bd_over(plain, choice, span),
            bd_ssim=bd_over(_by("ssim", plain), _by("ssim", choice), span),
            bd_ms_ssim=bd_over(_by("ms_ssim", plain), _by("ms_ssim", choice), span),
            covered=covered_share(plain, choice, span),
        )

    @property
    def choice(self) -> list[RatePoint]:
        """The files that an encoder takes that knows every curve."""
        return choice_of(self.vcframe)


@dataclass(frozen=True)
class BdSummary:
    """Distribution of the BD-rates in per cent over the pictures that have one; None where none has.

    `covered` is the mean over the same pictures of `covered_share`, 0..1; `ssim_mean` and `ms_ssim_mean` are
    of the BD-rates by SSIM and MS-SSIM over the pictures that have one.
    """

    num_images: int
    num_missing: int
    mean: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None
    covered: float | None
    ssim_mean: float | None
    ms_ssim_mean: float | None


@dataclass(frozen=True)
class FixedRate:
    """Mean PSNR at one rate over the `num_images` pictures whose two curves both reach it."""

    bpp: float
    num_images: int
    plain_psnr_db: float | None
    vcframe_psnr_db: float | None


@dataclass(frozen=True)
class QualityMean:
    """vcframe at one quality over the `num_images` pictures measured there.

    `gain_db` is its mean PSNR minus that of the plain codec at equal bytes, over the `num_matched` pictures
    whose plain curve reaches so many bytes. `ssim` is None if a picture is too small for it.
    """

    quality: float
    num_images: int
    bpp: float
    psnr_db: float
    ssim: float | None
    num_matched: int
    gain_db: float | None


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what it takes to measure it again."""

    command: str
    versions: dict[str, str]
    codec: dict[str, Any]
    codec_version: str
    plain: dict[str, Any]
    """Configuration of the plain codec."""
    model_id: str
    card: dict[str, Any]
    convention: str
    ends_bpp: tuple[float, ...]
    """Where the ranges of the BD-rate end, ascending: each begins where the one before ended."""
    span: Span
    """The range of the BD-rates in `images`: the first, or that of a view (`over`)."""
    scales: tuple[int, ...]
    """Scales of the model that were measured."""
    chooses: bool
    """Whether the encoder chooses between the scales and the plain codec's own file."""
    qualities: tuple[float, ...] | None
    """The qualities of vcframe that were asked for, worst first; None if each picture's curve chose them."""
    images: tuple[ImageRow, ...]

    @property
    def parts(self) -> dict[str, Evaluation]:
        """By name: the same measurements for encoders that have one part of the choice; empty without one."""
        if not self.chooses:
            return {}
        # The codec without networks is a part of its own where it has other options than the plain codec.
        scales = self.scales if self.codec == self.plain else (*self.scales, None)
        return {scale_name(scale): self.alone(scale) for scale in scales}

    def alone(self, scale: int | None) -> Evaluation:
        """The same measurements for an encoder that has this one scale (None: no networks) and no choice."""
        rows = []
        for row in self.images:
            points = tuple(point for point in row.vcframe if point.scale == scale)
            if points:
                row = replace(row, vcframe=points).over(self.span)
            rows.append(row)
        scales = () if scale is None else (scale,)
        return replace(self, scales=scales, chooses=False, images=tuple(rows))

    @property
    def later_ranges(self) -> list[Evaluation]:
        """The same measurements for each further range of the BD-rate."""
        views = []
        for span in itertools.pairwise(self.ends_bpp):
            rows = tuple(row.over(span) if row.plain else row for row in self.images)
            views.append(replace(self, span=span, images=rows))
        return views

    @property
    def summary(self) -> BdSummary:
        """Mean and quartiles of the per-picture BD-rates."""
        values = [row.bd.percent for row in self.images if row.bd.percent is not None]
        counts = len(self.images), len(self.images) - len(values)
        if not values:
            return BdSummary(*counts, None, None, None, None, None, None, None)
        lower, median, upper = (float(v) for v in np.percentile(values, (25, 50, 75)))
        shares = [row.covered for row in self.images if row.bd.percent is not None]
        covered = mean_of_defined(shares)
        ssim = mean_of_defined([row.bd_ssim.percent for row in self.images if row.bd_ssim])
        ms_ssim = mean_of_defined([row.bd_ms_ssim.percent for row in self.images if row.bd_ms_ssim])
        return BdSummary(*counts, float(np.mean(values)), lower, median, upper, covered, ssim, ms_ssim)

    @property
    def fixed_rates(self) -> tuple[FixedRate, ...]:
        """Mean PSNR of both at each rate of `FIXED_BPP`."""
        return tuple(self._fixed_rate(bpp) for bpp in FIXED_BPP if bpp <= self.ends_bpp[-1])

    def _fixed_rate(self, bpp: float) -> FixedRate:
        both = [(psnr_at_bpp(row.plain, bpp), psnr_at_bpp(row.choice, bpp)) for row in self.images]
        defined = [(p, v) for p, v in both if p is not None and v is not None]
        if not defined:
            return FixedRate(bpp, 0, None, None)
        plain, vcframe = np.mean(defined, axis=0)
        return FixedRate(bpp, len(defined), float(plain), float(vcframe))

    @property
    def quality_means(self) -> tuple[QualityMean, ...]:
        """Means at each quality that was asked for; empty where none was."""
        measured = [
            (q, [(row, p) for row in self.images for p in row.vcframe if p.quality == q])
            for q in self.qualities or ()
        ]
        return tuple(_quality_mean(quality, pairs) for quality, pairs in measured if pairs)

    @classmethod
    def from_json(cls, content: Any) -> Evaluation:
        """What `to_json` wrote; raises `UsageError` for anything else."""
        _check_schema(content)
        given: dict[str, Any] = {field.name: content[field.name] for field in fields(cls)}
        for name, value in given.items():
            given[name] = tuple(value) if isinstance(value, list) else value
        given["images"] = tuple(_row(row) for row in content["images"])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`; undefined numbers are null."""
        measured = asdict(self)
        pictures = measured.pop("images")
        ranges = [
            {
                "span": view.span,
                "summary": asdict(view.summary),
                "parts": {name: {"summary": asdict(part.summary)} for name, part in view.parts.items()},
            }
            for view in self.later_ranges
        ]
        content: dict[str, Any] = _without_nan(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                **measured,
                "summary": asdict(self.summary),
                "fixed_rates": [asdict(rate) for rate in self.fixed_rates],
                "parts": {
                    name: {
                        "scales": part.scales,
                        "summary": asdict(part.summary),
                        "fixed_rates": [asdict(rate) for rate in part.fixed_rates],
                    }
                    for name, part in self.parts.items()
                },
                "later_ranges": ranges,
                "quality_means": [asdict(mean) for mean in self.quality_means],
                "images": pictures,
            }
        )
        return content


def earlier_points(content: Any, wanted: Mapping[str, Any]) -> dict[str, tuple[RatePoint, ...]]:
    """vcframe's files in the JSON of an earlier evaluation, by the digest of the picture.

    `wanted` are the entries of the JSON that must agree. Raises `UsageError` naming what does not.
    """
    _check_schema(content)
    for name, value in wanted.items():
        if content[name] != value:
            raise UsageError(f"the earlier result has {name} {content[name]}, not {value}: evaluate again")
    return {row["sha256"]: _points(row["vcframe"]) for row in content["images"] if row["vcframe"]}


def _check_schema(content: Any) -> None:
    found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
    if found != (SCHEMA, SCHEMA_VERSION):
        raise UsageError(f"the earlier result is no {SCHEMA} of version {SCHEMA_VERSION}: evaluate again")


def _row(row: dict[str, Any]) -> ImageRow:
    points = {name: _points(row[name]) for name in ("plain", "vcframe")}
    results = {name: row[name] and BdResult(**row[name]) for name in ("bd", "bd_ssim", "bd_ms_ssim")}
    return ImageRow(**{**row, **points, **results})


def _points(points: Sequence[dict[str, Any]]) -> tuple[RatePoint, ...]:
    return tuple(RatePoint(**_with_nan(point)) for point in points)


def _with_nan(point: dict[str, Any]) -> dict[str, Any]:
    similarities = ("ssim", "ms_ssim")
    return point | {name: math.nan for name in similarities if point[name] is None}


def scale_name(scale: int | None) -> str:
    """`scale 1`, `scale 1/2`, or `no networks` for None."""
    if scale is None:
        return "no networks"
    return "scale 1" if scale == 1 else f"scale 1/{scale}"


def covered_share(plain: Sequence[RatePoint], vcframe: Sequence[RatePoint], span: Span) -> float | None:
    """Share, 0..1, of the plain codec's PSNR range between two rates that both curves reach.

    The BD-rate is a mean over this share. None where the plain codec has no such range.
    """
    if not (plain and vcframe) or not _overlaps(plain, span):
        return None
    low, high = psnr_range(plain, span)
    fronts = pareto_front(plain), pareto_front(vcframe)
    start = max(low, *(front[0].psnr_db for front in fronts))
    end = min(high, *(front[-1].psnr_db for front in fronts))
    return max(0.0, end - start) / (high - low) if high > low else None


def psnr_range(plain: Sequence[RatePoint], span: Span) -> tuple[float, float]:
    """PSNR of the plain codec at both rates; where it does not reach one, at its lowest or best quality."""
    low, high = (psnr_at_bpp(plain, bpp) if bpp else None for bpp in span)
    best = max(point.psnr_db for point in plain)
    return plain[0].psnr_db if low is None else low, best if high is None else high


def _overlaps(plain: Sequence[RatePoint], span: Span) -> bool:
    rates = [point.bpp for point in plain]
    return min(rates) < span[1] and max(rates) > span[0]


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Mean of those that are defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def choice_of(points: Sequence[RatePoint]) -> list[RatePoint]:
    """The files that an encoder takes that knows the curve of each scale, by growing rate."""
    scales = dict.fromkeys(point.scale for point in points)
    return best_of([point for point in points if point.scale == scale] for scale in scales)


def bd_over(plain: Sequence[RatePoint], vcframe: Sequence[RatePoint], span: Span) -> BdResult:
    """BD-rate over the PSNR range that the plain codec covers between two rates."""
    if not (plain and vcframe):
        return BdResult(None, "the picture is too small to be judged so", None, None)
    if not _overlaps(plain, span):
        rates = [point.bpp for point in plain]
        reason = (
            f"the plain codec has {min(rates):.3f} to {max(rates):.3f} bpp, not {span[0]:g} to {span[1]:g}"
        ) + ": give a larger --max-bpp" * (min(rates) >= span[1])
        return BdResult(None, reason, None, None)
    return bd_rate(plain, vcframe, psnr_range(plain, span))


def _by(name: str, points: Sequence[RatePoint]) -> list[RatePoint]:
    """The points with that similarity in decibels in the place of PSNR; none where it is undefined."""
    values = [getattr(point, name) for point in points]
    if any(math.isnan(value) for value in values):
        return []
    decibels = [-10 * math.log10(max(1 - value, 1e-10)) for value in values]
    return [replace(point, psnr_db=db) for point, db in zip(points, decibels, strict=True)]


def _quality_mean(quality: float, pairs: Sequence[tuple[ImageRow, RatePoint]]) -> QualityMean:
    points = [point for _, point in pairs]
    references = [psnr_at_bpp(row.plain, point.bpp) for row, point in pairs]
    gains = [
        point.psnr_db - plain for point, plain in zip(points, references, strict=True) if plain is not None
    ]
    structural = float(np.mean([point.ssim for point in points]))
    return QualityMean(
        quality,
        len(points),
        float(np.mean([point.bpp for point in points])),
        float(np.mean([point.psnr_db for point in points])),
        None if math.isnan(structural) else structural,
        len(gains),
        float(np.mean(gains)) if gains else None,
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

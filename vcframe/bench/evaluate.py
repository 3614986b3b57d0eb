"""Plain codec against vcframe on real pictures: real files, real decodes, one curve each per picture.

Rate is the length of the whole file, payload included, per pixel of the original. The BD-rate of a picture is
taken over the PSNR range that the plain codec covers between its lowest quality and `max_bpp`.
"""

from __future__ import annotations

import hashlib
import math
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcframe import __version__
from vcframe.codec import Codec, CodecError, Image, ImageError, QualityScale, UsageError
from vcframe.coder import check_model, decompress
from vcframe.images import luma, read_image
from vcframe.metrics import (
    BD_MAX_BPP,
    BdResult,
    RatePoint,
    bd_rate,
    best_of,
    pareto_front,
    psnr,
    psnr_at_bpp,
    ssim,
)
from vcframe.registry import CodecRecord
from vcframe.ways import Way

if TYPE_CHECKING:
    from vcframe.model import Model

SCHEMA = "vcframe-evaluation"
SCHEMA_VERSION = 2

FIXED_BPP = (0.05, 0.10, 0.15, 0.20, 0.30)
"""Rates of the table of mean PSNR."""

NUM_STEPS = 20
"""Steps into which the unit quality scale is divided at least, every sweep entry among them."""

MIN_POINTS = 4

OVERSHOOT = 1.15
"""A curve ends at the first point beyond this many times the largest rate of interest."""

REACH = 2.0
"""The curve of one scale goes on to this many times that rate while it is still short of the plain PSNR."""


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

    @property
    def choice(self) -> list[RatePoint]:
        """The files that an encoder takes that knows every curve."""
        return _choice(self.vcframe)


@dataclass(frozen=True)
class BdSummary:
    """Distribution of the BD-rates in per cent over the pictures that have one; None where none has.

    `covered` is the mean over the same pictures of `covered_share`, 0..1.
    """

    num_images: int
    num_missing: int
    mean: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None
    covered: float | None


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
    max_bpp: float
    scales: tuple[int, ...]
    """Scales of the model that were measured."""
    chooses: bool
    """Whether the encoder chooses between the scales and the plain codec's own file."""
    qualities: tuple[float, ...] | None
    """The qualities of vcframe that were asked for, worst first; None if each picture's curve chose them."""
    images: tuple[ImageRow, ...]

    def alone(self, scale: int) -> Evaluation:
        """The same measurements for an encoder that has this one scale and no choice."""
        rows = []
        for row in self.images:
            points = tuple(point for point in row.vcframe if point.scale == scale)
            if points:
                bd = _bd(row.plain, points, self.max_bpp)
                covered = covered_share(row.plain, points, self.max_bpp)
                row = replace(row, vcframe=points, bd=bd, covered=covered)
            rows.append(row)
        return replace(self, scales=(scale,), chooses=False, images=tuple(rows))

    @property
    def summary(self) -> BdSummary:
        """Mean and quartiles of the per-picture BD-rates."""
        values = [row.bd.percent for row in self.images if row.bd.percent is not None]
        counts = len(self.images), len(self.images) - len(values)
        if not values:
            return BdSummary(*counts, None, None, None, None, None)
        lower, median, upper = (float(v) for v in np.percentile(values, (25, 50, 75)))
        shares = [row.covered for row in self.images if row.bd.percent is not None]
        covered = mean_share(shares)
        return BdSummary(*counts, float(np.mean(values)), lower, median, upper, covered)

    @property
    def fixed_rates(self) -> tuple[FixedRate, ...]:
        """Mean PSNR of both at each rate of `FIXED_BPP`."""
        return tuple(self._fixed_rate(bpp) for bpp in FIXED_BPP)

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

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`; undefined numbers are null."""
        measured = asdict(self)
        pictures = measured.pop("images")
        alone = [self.alone(scale) for scale in self.scales] if self.chooses else []
        content: dict[str, Any] = _without_nan(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                **measured,
                "summary": asdict(self.summary),
                "fixed_rates": [asdict(rate) for rate in self.fixed_rates],
                "alone": [
                    {
                        "scale": view.scales[0],
                        "summary": asdict(view.summary),
                        "fixed_rates": [asdict(rate) for rate in view.fixed_rates],
                    }
                    for view in alone
                ],
                "quality_means": [asdict(mean) for mean in self.quality_means],
                "images": pictures,
            }
        )
        return content


def evaluate(
    codec: Codec,
    model: Model,
    images: Sequence[Path],
    qualities: Sequence[float] | None = None,
    plain: Codec | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    *,
    max_bpp: float = BD_MAX_BPP,
    scale: int | None = None,
) -> Evaluation:
    """Measure the plain codec and vcframe (`codec` with `model`) on each picture.

    `plain` is the plain codec in its best setting where that differs from `codec`. Each curve takes a grid
    over the unit quality from the worst up, until it passes `max_bpp`. vcframe has the files at each scale of
    the model and the plain codec's own, as `compress` has; given a `scale`, the files at that one alone.
    Given `qualities` (numbers of the codec's own scale), vcframe is measured at exactly these, at one scale,
    and the plain codec over its whole grid. A grey model is measured on the luma of the pictures.
    `on_progress` is called with (pictures done, pictures in all, file name) before each picture and once at
    the end. A picture that cannot be read or coded becomes a row with the reason.

    Raises `UsageError` for a bad quality, no pictures, or a model of another codec, and `ImageError` if none
    of the pictures could be measured.
    """
    if not images:
        raise UsageError("no pictures to evaluate")
    if not (math.isfinite(max_bpp) and max_bpp > 0):
        raise UsageError(f"largest rate {max_bpp:g} bpp must be above 0")
    checked = None if qualities is None else _checked(codec.quality_scale, qualities)
    asked: Sequence[float | None] = checked or [None]
    for quality in asked:
        check_model(model, codec, quality, scale)
    scales = model.card.scales if scale is None else [scale]
    if qualities is not None and len(scales) > 1:
        raise UsageError(f"qualities belong to one scale: give one of {scales}")
    chooses = scale is None and qualities is None
    bench = _Bench(codec, plain or codec, model, scales, checked, max_bpp, chooses)
    rows = []
    for done, path in enumerate(images):
        if on_progress:
            on_progress(done, len(images), path.name)
        rows.append(bench.row(path))
    if on_progress:
        on_progress(len(images), len(images), "")
    if not any(row.plain for row in rows):
        raise ImageError(
            f"none of {len(rows)} pictures could be measured; {rows[0].name}: {rows[0].bd.reason}"
        )
    return Evaluation(
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        versions=_versions(),
        codec=codec.config(),
        codec_version=codec.version(),
        plain=bench.plain.config(),
        model_id=model.id,
        card=model.card.model_dump(mode="json"),
        convention=_convention(model.card.channels, max_bpp, scales, chooses),
        max_bpp=max_bpp,
        scales=tuple(scales),
        chooses=chooses,
        qualities=tuple(checked) if checked else None,
        images=tuple(rows),
    )


class _OneCodec:
    """What `decompress` needs of a registry: the codec under test, with or without an installed plugin."""

    def __init__(self, codec: type[Codec]) -> None:
        self.codecs = {codec.name: CodecRecord(codec, codec.name, "")}

    def codec(self, name: str, /, **options: Any) -> Codec:
        return self.codecs[name].codec(**options)


@dataclass(frozen=True)
class _Bench:
    """The two systems under test and the qualities at which they are measured."""

    codec: Codec
    plain: Codec
    model: Model
    scales: Sequence[int]
    qualities: Sequence[float] | None
    max_bpp: float
    chooses: bool
    """Whether the encoder may choose between the scales and the plain codec."""

    def row(self, path: Path) -> ImageRow:
        """Measure one picture; what cannot be measured is a row too."""
        digest, size = None, (0, 0)
        try:
            image = read_image(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            image = luma(image) if self.model.card.channels == 1 else image
            size = image.shape[:2]
            plain, vcframe = self._curves(image)
        except (ImageError, CodecError) as error:
            return ImageRow(path.name, digest, *size, (), (), BdResult(None, str(error), None, None))
        choice = _choice(vcframe)
        bd = _bd(plain, choice, self.max_bpp)
        covered = covered_share(plain, choice, self.max_bpp)
        return ImageRow(path.name, digest, *size, tuple(plain), tuple(vcframe), bd, covered)

    def _curves(self, image: Image) -> tuple[list[RatePoint], list[RatePoint]]:
        """Both curves; the plain codec runs in a thread beside the networks."""
        grid = self.qualities or _grid(self.codec.quality_scale)
        ways = [Way(image, self.codec, self.model, scale) for scale in self.scales]
        with ThreadPoolExecutor(max_workers=1) as pool:
            plain_way = Way(image, self.plain)
            plain = pool.submit(self._curve, plain_way, _grid(self.plain.quality_scale), self._is_past)
            points = []
            for way in ways:
                points += self._curve(way, grid, lambda point: self._is_last(point, plain))
            if self.chooses and self.plain.config() == self.codec.config():
                points += plain.result()
            elif self.chooses:
                points += self._curve(Way(image, self.codec), grid, self._is_past)
            return plain.result(), points

    def _curve(
        self, way: Way, qualities: Sequence[float], is_last: Callable[[RatePoint], bool]
    ) -> list[RatePoint]:
        points: list[RatePoint] = []
        for quality in qualities:
            coded = way.compress(quality)
            restored = decompress(coded.data, _OneCodec(type(way.codec)), lambda reference, codec: self.model)
            image = luma(restored.image) if way.image.ndim < restored.image.ndim else restored.image
            distortion = psnr(way.image, image), ssim(way.image, image)
            points.append(RatePoint(quality, coded.num_bytes, coded.bpp, *distortion, way.scale))
            if self.qualities is None and len(points) >= MIN_POINTS and is_last(points[-1]):
                break
        return points

    def _is_past(self, point: RatePoint) -> bool:
        return point.bpp > OVERSHOOT * self.max_bpp

    def _is_last(self, point: RatePoint, plain: Future[list[RatePoint]]) -> bool:
        """Whether a scale's curve may end: one short of the BD range would hide where it is worse."""
        if not self._is_past(point):
            return False
        high = _psnr_range(plain.result(), self.max_bpp)[1]
        return point.psnr_db >= high or point.bpp > REACH * self.max_bpp


def _grid(scale: QualityScale) -> list[float]:
    """Qualities from worst to best, evenly over the unit scale, every sweep entry among them."""
    gaps = len(scale.sweep) - 1
    num_steps = gaps * math.ceil(NUM_STEPS / gaps)
    return list(dict.fromkeys(scale.native(i / num_steps) for i in range(num_steps + 1)))


def _checked(scale: QualityScale, given: Sequence[float]) -> list[float]:
    """The given qualities, worst first, each once."""
    if not given:
        raise UsageError("no qualities to evaluate")
    return sorted({scale.check(quality) for quality in given}, key=scale.unit)


def _choice(points: Sequence[RatePoint]) -> list[RatePoint]:
    scales = dict.fromkeys(point.scale for point in points)
    return best_of([point for point in points if point.scale == scale] for scale in scales)


def _psnr_range(plain: Sequence[RatePoint], max_bpp: float) -> tuple[float, float]:
    """PSNR of the plain codec at its lowest quality and at `max_bpp`, or at its best if it stays below."""
    at_max = psnr_at_bpp(plain, max_bpp)
    best = max(point.psnr_db for point in plain)
    return plain[0].psnr_db, best if at_max is None else at_max


def covered_share(plain: Sequence[RatePoint], vcframe: Sequence[RatePoint], max_bpp: float) -> float | None:
    """Share, 0..1, of the plain codec's PSNR range (lowest quality to `max_bpp`) that both curves reach.

    The BD-rate is a mean over this share. None where the plain codec has no such range.
    """
    if not (plain and vcframe) or min(point.bpp for point in plain) >= max_bpp:
        return None
    low, high = _psnr_range(plain, max_bpp)
    fronts = pareto_front(plain), pareto_front(vcframe)
    start = max(low, *(front[0].psnr_db for front in fronts))
    end = min(high, *(front[-1].psnr_db for front in fronts))
    return max(0.0, end - start) / (high - low) if high > low else None


def mean_share(shares: Sequence[float | None]) -> float | None:
    """Mean of those that are defined."""
    defined = [share for share in shares if share is not None]
    return float(np.mean(defined)) if defined else None


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


def _bd(plain: Sequence[RatePoint], vcframe: Sequence[RatePoint], max_bpp: float) -> BdResult:
    lowest = min(point.bpp for point in plain)
    if lowest >= max_bpp:
        reason = f"the plain codec starts at {lowest:.3f} bpp, not under {max_bpp:g}"
        return BdResult(None, reason, None, None)
    return bd_rate(plain, vcframe, _psnr_range(plain, max_bpp))


def _convention(channels: int, max_bpp: float, scales: Sequence[int], chooses: bool) -> str:
    names = " and ".join("1" if scale == 1 else f"1/{scale}" for scale in scales)
    files = f"vcframe at scale {names}"
    if chooses:
        files += ", or the plain codec's own file, whichever restores best within the bytes"
    samples = "luma PSNR (full-range BT.601)" if channels == 1 else "RGB PSNR over all samples"
    return (
        f"{files}; {samples} of 8-bit pictures; rate: whole file with payload, bits per pixel of the "
        "original; BD-rate per picture, PCHIP of log rate over PSNR, upper envelopes, over the PSNR range of "
        f"the plain codec from its lowest quality to {max_bpp:g} bpp; then mean and quartiles over pictures"
    )


def _versions() -> dict[str, str]:
    versions = {"vcframe": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in ("numpy", "scipy", "scikit-image", "pillow"):
        versions[name] = installed_version(name)
    if "torch" in sys.modules:
        versions["torch"] = str(sys.modules["torch"].__version__)
    return versions


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

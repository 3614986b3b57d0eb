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
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcframe import __version__
from vcframe.codec import Codec, CodecError, Image, ImageError, QualityScale, UsageError
from vcframe.coder import compress, decompress
from vcframe.images import luma, read_image
from vcframe.metrics import (
    BD_MAX_BPP,
    BdResult,
    RatePoint,
    bd_rate,
    pareto_front,
    psnr,
    psnr_at_bpp,
    ssim,
)
from vcframe.registry import CodecRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vcframe.model import Model

SCHEMA = "vcframe-evaluation"
SCHEMA_VERSION = 1

FIXED_BPP = (0.05, 0.10, 0.15, 0.20, 0.30)
"""Rates of the table of mean PSNR."""

NUM_STEPS = 20
"""Steps into which the unit quality scale is divided at least, every sweep entry among them."""

MIN_POINTS = 4

OVERSHOOT = 1.15
"""A curve ends at the first point beyond this many times the largest rate of interest."""

REACH = 2.0
"""The vcframe curve goes on to this many times that rate while it is still short of the plain PSNR."""


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
    bd: BdResult
    covered: float | None = None
    """`covered_share` of the two curves."""


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
    qualities: tuple[float, ...] | None
    """The qualities of vcframe that were asked for, worst first; None if each picture's curve chose them."""
    images: tuple[ImageRow, ...]

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
        both = [(psnr_at_bpp(row.plain, bpp), psnr_at_bpp(row.vcframe, bpp)) for row in self.images]
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
        content: dict[str, Any] = _without_nan(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                **measured,
                "summary": asdict(self.summary),
                "fixed_rates": [asdict(rate) for rate in self.fixed_rates],
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
) -> Evaluation:
    """Measure the plain codec and vcframe (`codec` with `model`) on each picture.

    `plain` is the plain codec in its best setting where that differs from `codec`. Each curve takes a grid
    over the unit quality from the worst up, until it passes `max_bpp`. Given `qualities` (numbers of the
    codec's own scale), vcframe is measured at exactly these and the plain codec over its whole grid. A grey
    model is measured on the luma of the pictures.
    `on_progress` is called with (pictures done, pictures in all, file name) before each picture and once at
    the end. A picture that cannot be read or coded becomes a row with the reason.

    Raises `UsageError` for a bad quality, no pictures, or a model of another codec, and `ImageError` if none
    of the pictures could be measured.
    """
    if not images:
        raise UsageError("no pictures to evaluate")
    if not (math.isfinite(max_bpp) and max_bpp > 0):
        raise UsageError(f"largest rate {max_bpp:g} bpp must be above 0")
    bench = _Bench(codec, plain or codec, model, qualities, max_bpp)
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
        convention=_convention(model.card.channels, max_bpp),
        max_bpp=max_bpp,
        qualities=None if qualities is None else tuple(bench.vcframe_qualities),
        images=tuple(rows),
    )


class _OneCodec:
    """What `decompress` needs of a registry: the codec under test, with or without an installed plugin."""

    def __init__(self, codec: type[Codec]) -> None:
        self.codecs = {codec.name: CodecRecord(codec, codec.name, "")}

    def codec(self, name: str, /, **options: Any) -> Codec:
        return self.codecs[name].codec(**options)


class _Bench:
    """The two systems under test and the qualities at which they are measured."""

    def __init__(
        self, codec: Codec, plain: Codec, model: Model, qualities: Sequence[float] | None, max_bpp: float
    ) -> None:
        self.codec, self.plain, self.model, self.max_bpp = codec, plain, model, max_bpp
        self.registry = _OneCodec(type(codec))
        self.stops_early = qualities is None
        self.plain_qualities = _grid(plain.quality_scale)
        self.vcframe_qualities = (
            _grid(codec.quality_scale) if qualities is None else _checked(codec.quality_scale, qualities)
        )

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
        bd = _bd(plain, vcframe, self.max_bpp)
        covered = covered_share(plain, vcframe, self.max_bpp)
        return ImageRow(path.name, digest, *size, tuple(plain), tuple(vcframe), bd, covered)

    def _curves(self, image: Image) -> tuple[list[RatePoint], list[RatePoint]]:
        """Both curves; the plain codec runs in a thread beside the networks."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            plain = pool.submit(
                self._curve, lambda q: self._plain_point(image, q), self.plain_qualities, self._is_past
            )
            vcframe = self._curve(
                lambda q: self._vcframe_point(image, q),
                self.vcframe_qualities,
                lambda point: self._is_past(point) and self._has_reached(point, plain),
            )
            return plain.result(), vcframe

    def _curve(
        self,
        measure: Callable[[float], RatePoint],
        qualities: Sequence[float],
        is_last: Callable[[RatePoint], bool],
    ) -> list[RatePoint]:
        points: list[RatePoint] = []
        for quality in qualities:
            points.append(measure(quality))
            if self.stops_early and len(points) >= MIN_POINTS and is_last(points[-1]):
                break
        return points

    def _is_past(self, point: RatePoint) -> bool:
        return point.bpp > OVERSHOOT * self.max_bpp

    def _has_reached(self, point: RatePoint, plain: Future[list[RatePoint]]) -> bool:
        """Whether the curve covers the BD range: one that ended short of it would hide where it is worse."""
        high = _psnr_range(plain.result(), self.max_bpp)[1]
        return point.psnr_db >= high or point.bpp > REACH * self.max_bpp

    def _plain_point(self, image: Image, quality: float) -> RatePoint:
        coded = compress(image, self.plain, quality=quality)
        decoded = self.plain.decode(coded.data)
        return _point(image, luma(decoded) if image.ndim == 2 else decoded, quality, coded.num_bytes)

    def _vcframe_point(self, image: Image, quality: float) -> RatePoint:
        coded = compress(image, self.codec, quality=quality, model=self.model)
        restored = decompress(coded.data, self.registry, lambda reference, codec: self.model)
        return _point(image, restored.image, quality, coded.num_bytes)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the mean PSNR (at fixed rates, or at the qualities asked for) and the BD-rate of each picture."""
    from rich.markup import escape

    options = ", ".join(f"{k}={v}" for k, v in evaluation.codec["options"].items())
    console.print(
        escape(
            f"{evaluation.codec['codec']} ({options or 'no options'}; {evaluation.codec_version}), "
            f"model {evaluation.model_id}"
        )
    )
    console.print(_means_table(evaluation) if evaluation.qualities else _rates_table(evaluation))
    console.print(_pictures_table(evaluation))
    console.print(_summary_line(evaluation.summary))
    console.print(escape(evaluation.convention), style="dim")


def _rates_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    table = Table("bpp", "plain dB", "vcframe dB", "gain dB", "pictures", title="Mean PSNR at equal bytes")
    for rate in evaluation.fixed_rates:
        gain = _difference(rate.vcframe_psnr_db, rate.plain_psnr_db)
        cells = _number(rate.plain_psnr_db), _number(rate.vcframe_psnr_db), _number(gain, "+.2f")
        table.add_row(f"{rate.bpp:.2f}", *cells, str(rate.num_images))
    return table


def _means_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    title = "Means of vcframe, and its gain over plain at equal bytes"
    table = Table("quality", "bpp", "dB", "SSIM", "pictures", "gain dB", "of", title=title)
    for mean in evaluation.quality_means:
        cells = f"{mean.bpp:.4f}", f"{mean.psnr_db:.2f}", _number(mean.ssim, ".4f"), str(mean.num_images)
        table.add_row(f"{mean.quality:g}", *cells, _number(mean.gain_db, "+.2f"), str(mean.num_matched))
    return table


def _pictures_table(evaluation: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    headings = "picture", "size", "BD-rate", "over dB", "covered"
    table = Table(*headings, title="BD-rate of vcframe against plain")
    for row in evaluation.images:
        span = f"{_number(row.bd.psnr_low)}..{_number(row.bd.psnr_high)}"
        rate = f"n/a ({row.bd.reason})" if row.bd.percent is None else f"{row.bd.percent:+.2f} %"
        covered = _number(row.covered, ".0%")
        table.add_row(escape(row.name), f"{row.width}x{row.height}", escape(rate), span, covered)
    return table


def _summary_line(summary: BdSummary) -> str:
    counts = f"{summary.num_images - summary.num_missing} of {summary.num_images} pictures"
    if summary.mean is None:
        return f"BD-rate: n/a on all {summary.num_images} pictures"
    return (
        f"BD-rate: mean {summary.mean:+.2f} %, median {_number(summary.median, '+.2f')} %, quartiles "
        f"{_number(summary.lower_quartile, '+.2f')} .. {_number(summary.upper_quartile, '+.2f')} %, {counts}"
        f", {_number(summary.covered, '.0%')} of the range covered"
    )


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


def _point(original: Image, restored: Image, quality: float, num_bytes: int) -> RatePoint:
    bpp = 8 * num_bytes / (original.shape[0] * original.shape[1])
    return RatePoint(quality, num_bytes, bpp, psnr(original, restored), ssim(original, restored))


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


def _convention(channels: int, max_bpp: float) -> str:
    samples = "luma PSNR (full-range BT.601)" if channels == 1 else "RGB PSNR over all samples"
    return (
        f"{samples} of 8-bit pictures; rate: whole file with payload, bits per pixel of the original; "
        "BD-rate per picture, PCHIP of log rate over PSNR, Pareto fronts, over the PSNR range of the plain "
        f"codec from its lowest quality to {max_bpp:g} bpp; then mean and quartiles over pictures"
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


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _number(value: float | None, spec: str = ".2f") -> str:
    return "n/a" if value is None else format(value, spec)

"""Plain codec against vcframe on real pictures: real files, real decodes, one curve each per picture.

What is measured, and what follows from it, is an `Evaluation`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcframe.bench.evaluation import Evaluation, ImageRow, earlier_points, psnr_range, scale_name
from vcframe.bench.metrics import METRICS
from vcframe.bench.provenance import command_line, versions
from vcframe.codec import Codec, CodecError, Image, ImageError, QualityScale, UsageError
from vcframe.coder import check_model, decompress
from vcframe.images import luma, read_image
from vcframe.metrics import BD_MAX_BPP, BdResult, RatePoint, psnr, ssim
from vcframe.registry import CodecRecord
from vcframe.ways import Way

if TYPE_CHECKING:
    from vcframe.model import Model

NUM_STEPS = 20
"""Steps into which the unit quality scale is divided at least, every sweep entry among them."""

MIN_POINTS = 4

OVERSHOOT = 1.15
"""A curve ends at the first point beyond this many times the largest rate of interest."""

REACH = 2.0
"""The curve of one scale goes on to this many times that rate while it is still short of the plain PSNR."""


def evaluate(
    codec: Codec,
    model: Model,
    images: Sequence[Path],
    qualities: Sequence[float] | None = None,
    plain: Codec | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    *,
    ends_bpp: Sequence[float] = (BD_MAX_BPP,),
    scale: int | None = None,
    earlier: Any = None,
) -> Evaluation:
    """Measure the plain codec and vcframe (`codec` with `model`) on each picture.

    `plain` is the plain codec in its best setting where that differs from `codec`, which is taken unaided.
    Each curve takes a grid over the unit quality from the worst up, until it passes the last of `ends_bpp`.
    vcframe has the files at each scale of the model and the codec's own, as `compress` has; given a `scale`,
    those at that one alone.
    Given `qualities` (numbers of the codec's own scale), vcframe is measured at exactly these, at one scale,
    and the plain codec over its whole grid. A grey model is measured on the luma of the pictures.
    Given the JSON of an `earlier` evaluation of the same model, scales, ranges and pictures, vcframe's files
    are those, and the plain codec alone is measured: against another of its settings.
    `on_progress` is called with (pictures done, pictures in all, file name) before each picture and once at
    the end. A picture that cannot be read or coded becomes a row with the reason. Multi-scale SSIM is NaN
    without pytorch-msssim.

    Raises `UsageError` for a bad quality, no pictures, or a model of another codec, and `ImageError` if none
    of the pictures could be measured.
    """
    if not images:
        raise UsageError("no pictures to evaluate")
    for below, end in itertools.pairwise((0.0, *ends_bpp)):
        if not (math.isfinite(end) and end > below):
            raise UsageError(f"largest rate {end:g} bpp must be above {below:g}")
    checked = None if qualities is None else _checked(codec.quality_scale, qualities)
    asked: Sequence[float | None] = checked or [None]
    for quality in asked:
        check_model(model, codec, quality, scale)
    scales = model.card.scales if scale is None else [scale]
    if qualities is not None and len(scales) > 1:
        raise UsageError(f"qualities belong to one scale: give one of {scales}")
    chooses = scale is None and qualities is None
    multi_scale = METRICS["ms_ssim"]
    ms_ssim = (lambda a, b: math.nan) if multi_scale.unavailable() else multi_scale.measure
    known = None
    if earlier is not None:
        same = {"model_id": model.id, "codec": codec.config(), "scales": list(scales), "chooses": chooses}
        same |= {"ends_bpp": list(ends_bpp), "qualities": checked}
        known = earlier_points(earlier, same)
    plain = plain or codec.unaided()
    bench = _Bench(codec, plain, model, scales, checked, tuple(ends_bpp), chooses, ms_ssim, known)
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
        command=command_line(),
        versions=versions(),
        codec=codec.config(),
        codec_version=codec.version(),
        plain=bench.plain.config(),
        model_id=model.id,
        card=model.card.model_dump(mode="json"),
        convention=_convention(model.card.channels, ends_bpp, scales, chooses),
        ends_bpp=tuple(ends_bpp),
        span=(0.0, ends_bpp[0]),
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
    ends_bpp: Sequence[float]
    chooses: bool
    """Whether the encoder may choose between the scales and the plain codec."""
    ms_ssim: Callable[[Image, Image], float]
    earlier: Mapping[str, tuple[RatePoint, ...]] | None
    """vcframe's files by the digest of the picture, where they are known."""

    def row(self, path: Path) -> ImageRow:
        """Measure one picture; what cannot be measured is a row too."""
        digest, size = None, (0, 0)
        try:
            image = read_image(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            image = luma(image) if self.model.card.channels == 1 else image
            size = image.shape[:2]
            if self.earlier is None:
                plain, vcframe = self._curves(image)
            elif digest in self.earlier:
                plain = self._curve(Way(image, self.plain), _grid(self.plain.quality_scale), self._is_past)
                vcframe = list(self.earlier[digest])
            else:
                raise ImageError(f"{path.name} is not in the earlier result")
        except (ImageError, CodecError) as error:
            return ImageRow(path.name, digest, *size, (), (), BdResult(None, str(error), None, None))
        unjudged = BdResult(None, None, None, None)
        row = ImageRow(path.name, digest, *size, tuple(plain), tuple(vcframe), unjudged)
        return row.over((0.0, self.ends_bpp[0]))

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
            unaided = self.codec.unaided()
            if self.chooses and self.plain.config() == unaided.config():
                points += plain.result()
            elif self.chooses:
                points += self._curve(Way(image, unaided), grid, self._is_past)
            return plain.result(), points

    def _curve(
        self, way: Way, qualities: Sequence[float], is_last: Callable[[RatePoint], bool]
    ) -> list[RatePoint]:
        points: list[RatePoint] = []
        for quality in qualities:
            coded = way.compress(quality).adapted
            restored = decompress(coded.data, _OneCodec(type(way.codec)), lambda reference, codec: self.model)
            image = luma(restored.image) if way.image.ndim < restored.image.ndim else restored.image
            points.append(
                RatePoint(
                    quality,
                    coded.num_bytes,
                    coded.bpp,
                    psnr(way.image, image),
                    ssim(way.image, image),
                    way.scale,
                    self.ms_ssim(way.image, image),
                )
            )
            if self.qualities is None and len(points) >= MIN_POINTS and is_last(points[-1]):
                break
        return points

    def _is_past(self, point: RatePoint) -> bool:
        return point.bpp > OVERSHOOT * self.ends_bpp[-1]

    def _is_last(self, point: RatePoint, plain: Future[list[RatePoint]]) -> bool:
        """Whether a scale's curve may end: one short of the BD range would hide where it is worse."""
        if not self._is_past(point):
            return False
        end = self.ends_bpp[-1]
        high = psnr_range(plain.result(), (0.0, end))[1]
        return point.psnr_db >= high or point.bpp > REACH * end


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


def _convention(channels: int, ends_bpp: Sequence[float], scales: Sequence[int], chooses: bool) -> str:
    files = f"vcframe at {' and '.join(map(scale_name, scales))}"
    if chooses:
        files += ", or the codec's own file, whichever restores best within the bytes"
    ends = ", then to ".join(f"{end:g} bpp" for end in ends_bpp)
    samples = "luma PSNR (full-range BT.601)" if channels == 1 else "RGB PSNR over all samples"
    return (
        f"{files}; {samples} of 8-bit pictures; rate: whole file with payload, bits per pixel of the "
        "original; BD-rate per picture, PCHIP of log rate over PSNR, upper envelopes, over the PSNR range of "
        f"the plain codec from its lowest quality to {ends}; then mean and quartiles over pictures"
    )

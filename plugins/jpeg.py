"""JPEG through Pillow (libjpeg-turbo): optimised Huffman tables always, progressive where it is smaller.

`_jpeg` reads the files and carries payloads.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

from ._jpeg import JpegFiles

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# ISO/IEC 10918-1, tables K.1 and K.2, in raster order.
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
# Of the levels tried on training pictures, these gave the best RGB PSNR at equal bytes. Luma's level alone
# only moves the quality scale.
FLAT_LUMINANCE, FLAT_CHROMINANCE = 34, 13


@dataclass(frozen=True)
class JpegOptions(Codec.Options):
    """Settings that change the bytes; Huffman tables are always optimised."""

    progressive: Literal["auto", "always", "never"] = "auto"
    """`auto` codes both ways and keeps the smaller file; the pixels are the same."""
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    flat: float = 0.0
    """0 keeps the standard quantisation tables, 1 makes them flat (34 luma, 13 chroma at quality 50), between
    is a geometric blend; quality scales all of them alike. About 0.75 is best in PSNR."""
    dead_zone: float = 0.5
    """AC coefficients below this share of their step become zero, and larger ones are rounded up from half
    way between it and 0.5. At 0.5 libjpeg's own rounding; about 0.7 is best in PSNR at equal bytes."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.flat <= 1.0:
            raise UsageError(f"codec jpeg: flat={self.flat!r} is outside 0..1")
        if not 0.5 <= self.dead_zone <= 1.0:
            raise UsageError(f"codec jpeg: dead_zone={self.dead_zone!r} is outside 0.5..1")


class JpegCodec(JpegFiles):
    """Baseline or progressive JPEG, grey or YCbCr, 8 bits."""

    name = "jpeg"
    extension = ".jpg"
    aliases = (".jpeg",)
    quality_scale = QualityScale(
        1, 95, 1, (1, 4, 6, 9, 13, 20, 31, 50, 70, 83, 90, 95), "libjpeg quality, scales the tables"
    )
    traits = Traits(max_side=65500, block=8, speed="fast")
    payload_mark = b"vc"
    Options = JpegOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code with Pillow; the smaller of baseline and progressive when `progressive` is `auto`."""
        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        kinds = {"auto": (False, True), "always": (True,), "never": (False,)}[self.options.progressive]
        try:
            picture, tables = self._picture_and_tables(image, quality)
            return min((self._write(picture, tables, progressive) for progressive in kinds), key=len)
        except Exception as error:
            raise CodecError(f"jpeg: encoding failed: {error}") from error

    def _picture_and_tables(self, image: Image, quality: float) -> tuple[PillowImage, list[list[int]]]:
        from PIL import Image as PillowModule

        options = self.options
        tables = [
            _table(LUMINANCE, FLAT_LUMINANCE, quality, options.flat),
            _table(CHROMINANCE, FLAT_CHROMINANCE, quality, options.flat),
        ][: 1 if image.ndim == 2 else 2]
        picture = PillowModule.fromarray(image)
        if options.dead_zone > 0.5:
            picture = _quantised(picture, tables, options.dead_zone, options.subsampling == "4:2:0")
        return picture, tables

    def _write(self, picture: PillowImage, tables: list[list[int]], progressive: bool) -> bytes:
        out = io.BytesIO()
        picture.save(
            out,
            "JPEG",
            qtables=tables,
            optimize=True,
            progressive=progressive,
            subsampling=self.options.subsampling,
        )
        return out.getvalue()

    def version(self) -> str:
        """The libjpeg-turbo inside Pillow."""
        import PIL
        from PIL import features

        return f"libjpeg-turbo {features.version('libjpeg_turbo')} (Pillow {PIL.__version__})"

    def unavailable(self) -> str | None:
        """Pillow is needed."""
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            return f"Pillow cannot be imported ({error}); install it with: pip install pillow"
        return None


def _table(base: tuple[int, ...], level: int, quality: float, flat: float) -> list[int]:
    """Quantisation table in raster order, entries 1..255.

    Before libjpeg's quality scaling (`jpeg_quality_scaling`: 5000/q per cent below 50, else 200 - 2q) each
    entry is `base**(1 - flat) * level**flat`, so `flat` 0 gives libjpeg's tables exactly, `flat` 1 the same
    step everywhere, and every entry falls as quality rises whatever the blend.
    """
    percent = 5000 // int(quality) if quality < 50 else 200 - 2 * int(quality)
    entries = np.asarray(base, np.float64) ** (1 - flat) * float(level) ** flat
    return [int(v) for v in np.clip((entries * percent + 50) // 100, 1, 255)]


def _quantised(
    picture: PillowImage, tables: list[list[int]], dead_zone: float, subsampled: bool
) -> PillowImage:
    """The picture that libjpeg, with these tables, codes to the coefficients that a dead zone leaves.

    It is made of the dequantised coefficients: the steps are far coarser than the rounding of samples, so the
    encoder finds the same levels again. Chroma at half size is repeated, which libjpeg's averaging undoes.
    """
    from PIL import Image as PillowModule

    if picture.mode == "L":
        return PillowModule.fromarray(_quantised_plane(np.asarray(picture), tables[0], dead_zone))
    luma, *chroma = (np.asarray(band) for band in picture.convert("YCbCr").split())
    height, width = luma.shape
    planes = [_quantised_plane(luma, tables[0], dead_zone)]
    for plane in chroma:
        if subsampled:
            even = np.pad(plane.astype(np.float64), ((0, height % 2), (0, width % 2)), mode="edge")
            plane = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
        quantised = _quantised_plane(plane, tables[1], dead_zone)
        if subsampled:
            quantised = quantised.repeat(2, 0).repeat(2, 1)[:height, :width]
        planes.append(quantised)
    return PillowModule.fromarray(np.stack(planes, axis=2), "YCbCr")


def _quantised_plane(plane: npt.NDArray[Any], table: list[int], dead_zone: float) -> npt.NDArray[np.uint8]:
    """`(H, W)` samples 0..255 through the cosine transform of 8x8 blocks, quantised with a dead zone."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge") - 128.0
    # (8, rows, columns, 8): a transform of rows and of columns is a matrix product from either side.
    blocks = padded.reshape(-1, 8, padded.shape[1] // 8, 8).swapaxes(0, 1)
    order, place = np.arange(8)[:, None], np.arange(8)[None, :]
    cosines = 0.5 * np.cos((2 * place + 1) * order * np.pi / 16)
    cosines[0] /= 2**0.5
    steps = np.asarray(table, np.float64).reshape(8, 1, 1, 8)
    levels = np.tensordot(cosines, blocks @ cosines.T, 1) / steps
    size = np.abs(levels)
    threshold = np.where(size < 1, dead_zone, (dead_zone + 0.5) / 2)
    threshold[0, :, :, 0] = 0.5
    levels = np.copysign(np.floor(size + 1 - threshold), levels)
    samples = np.tensordot(cosines.T, (levels * steps) @ cosines, 1).swapaxes(0, 1).reshape(padded.shape)
    out: npt.NDArray[np.uint8] = np.clip(np.rint(samples + 128), 0, 255).astype(np.uint8)
    return out[:height, :width]


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The JPEG backend."""
    return [JpegCodec]

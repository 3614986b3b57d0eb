"""AVIF through Pillow (libavif with libaom).

Payloads travel in a box of a private type at the end of the file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

from ._boxes import append_box, cut_box

MIN_PILLOW = (12, 2)
"""Earlier ones cannot open grey pictures as such."""


@dataclass(frozen=True)
class AvifOptions(Codec.Options):
    """Settings that change the bytes; one tile, one thread, 8 bits, full range; grey is always 4:0:0."""

    speed: int = 6
    """Effort, 0 (smallest) .. 10 (fastest)."""
    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """Resolution of the chroma planes; libavif averages 2x2 and doubles bilinearly."""
    tune: Literal["psnr", "ssim", "iq"] = "psnr"
    """What libaom optimises. `iq`, libavif's own choice, is for the eye: higher lowest rate, less PSNR."""

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= 10:
            raise UsageError(f"codec avif: speed={self.speed!r} is outside 0..10")


class AvifCodec(Codec):
    """One AV1 intra picture in an AVIF file, grey or full-range BT.601 YCbCr; the boxes cost 280 bytes."""

    name = "avif"
    extension = ".avif"
    # 64 quantisers serve 101 numbers, so some neighbours give the same file; 100 is lossless and left out.
    quality_scale = QualityScale(0, 99, 1, (0, 7, 16, 25, 35, 44, 53, 65, 80, 88, 94, 99), "libavif quality")
    # libavif opens pictures of up to 32768 pixels a side.
    traits = Traits(max_side=32768, block=8, speed="medium")
    Options = AvifOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code with libaom in one thread: other numbers of threads give other bytes."""
        from PIL import Image as PillowImage

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        out = io.BytesIO()
        try:
            PillowImage.fromarray(image).save(
                out,
                "AVIF",
                codec="aom",
                quality=int(quality),
                speed=self.options.speed,
                subsampling="4:0:0" if image.ndim == 2 else self.options.chroma,
                range="full",
                max_threads=1,
                autotiling=False,
                advanced={"tune": self.options.tune},
            )
        except Exception as error:
            raise CodecError(f"avif: encoding failed: {error}") from error
        return out.getvalue()

    def decode(self, data: bytes) -> Image:
        """Decode with libavif; grey stays `(H, W)`, all else becomes RGB, alpha is dropped."""
        _, _, channels = self.check_stream(data)
        try:
            with _open(data) as file:
                return np.array(file.convert("L" if channels == 1 else "RGB"))
        except Exception as error:
            raise CodecError(f"avif: decoding failed: {error}") from error

    def version(self) -> str:
        """The libavif inside Pillow, and its encoder."""
        import PIL
        from PIL import AvifImagePlugin, features

        encoder = AvifImagePlugin.get_codec_version("aom")
        return f"libavif {features.version('avif')}, aom {encoder} (Pillow {PIL.__version__})"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the `meta` box with libavif, which checks it against the header of the coded picture."""
        try:
            with _open(data) as file:
                width, height = file.size
                animated, mode = file.is_animated, file.mode
        except Exception as error:
            raise CodecError(f"avif: not an AVIF file: {error}") from error
        if animated:
            raise CodecError("avif: animations are not supported")
        return height, width, 1 if mode == "L" else 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a box."""
        if data[4:8] != b"ftyp":
            raise CodecError("avif: not an AVIF file")
        return append_box(data, payload)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our box, the last."""
        return cut_box(data) if data[4:8] == b"ftyp" else None

    def unavailable(self) -> str | None:
        """Pillow with libavif is needed."""
        install = "install it with: pip install 'pillow>=12.2'"
        try:
            import PIL.AvifImagePlugin
        except ImportError as error:
            return f"Pillow with AVIF cannot be imported ({error}); {install}"
        if not PIL.AvifImagePlugin.SUPPORTED:
            return f"Pillow {PIL.__version__} was built without AVIF; {install}"
        if tuple(map(int, PIL.__version__.split(".")[:2])) < MIN_PILLOW:
            return f"Pillow {PIL.__version__} cannot open grey AVIF files; {install}"
        return None


def _open(data: bytes) -> Any:
    """The plugin's own class, not Image.open: no other format may answer for these bytes."""
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The AVIF backend."""
    return [AvifCodec]

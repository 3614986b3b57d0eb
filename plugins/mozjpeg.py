"""JPEG written by mozjpeg (jpeglib, the extra `mozjpeg`): trellis quantisation and progressive scans.

`_jpeg` reads the files and carries payloads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

from ._jpeg import JpegFiles

LIBRARY, RELEASE = "mozjpeg403", "4.0.3"
_one_at_a_time = threading.Lock()
"""jpeglib has one chosen library for the whole process."""


@dataclass(frozen=True)
class MozjpegOptions(Codec.Options):
    """Settings that change the bytes; always progressive, with trellis quantisation of AC and DC."""

    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    tables: int = 3
    """Quantisation tables by mozjpeg's number: 0 those of the standard, 1 flat, best in PSNR, 2 for MS-SSIM,
    3 of N. Robidoux, mozjpeg's own choice, 4 for PSNR-HVS-M, 5 Klein, 6 Watson, 7 Ahumada, 8 Peterson."""

    def __post_init__(self) -> None:
        if not 0 <= self.tables <= 8:
            raise UsageError(f"codec mozjpeg: tables={self.tables!r} is outside 0..8")


class MozjpegCodec(JpegFiles):
    """Progressive JPEG, grey or YCbCr, 8 bits."""

    name = "mozjpeg"
    extension = ".jpg"
    aliases = (".jpeg",)
    # At 1 and 2 the trellis leaves hardly anything: 13 dB.
    quality_scale = QualityScale(
        3, 95, 1, (3, 5, 7, 10, 14, 21, 31, 50, 70, 83, 90, 95), "mozjpeg quality, scales the tables"
    )
    traits = Traits(max_side=65500, block=8, speed="medium")
    payload_mark = b"vm"
    Options = MozjpegOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code with mozjpeg, which jpeglib lets write into a file only."""
        import jpeglib

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        try:
            picture = jpeglib.from_spatial(image if image.ndim == 3 else image[:, :, None])
            if image.ndim == 3:
                picture.samp_factor = self.options.subsampling
            with TemporaryDirectory(prefix="vcframe-") as folder, _one_at_a_time:
                path = Path(folder, "picture.jpg")
                with jpeglib.version(LIBRARY):
                    picture.write_spatial(
                        str(path),
                        qt=int(quality),
                        base_quant_tbl_idx=self.options.tables,
                        flags=["+PROGRESSIVE_MODE", "+TRELLIS_QUANT", "+TRELLIS_QUANT_DC"],
                    )
                return path.read_bytes()
        except Exception as error:
            raise CodecError(f"mozjpeg: encoding failed: {error}") from error

    def version(self) -> str:
        """The mozjpeg inside jpeglib."""
        import jpeglib

        return f"mozjpeg {RELEASE} (jpeglib {jpeglib.__version__})"

    def unavailable(self) -> str | None:
        """jpeglib with mozjpeg, and Pillow to decode, are needed."""
        try:
            import jpeglib
            import PIL.Image  # noqa: F401

            with _one_at_a_time, jpeglib.version(LIBRARY):
                return None
        except Exception as error:
            return (
                f"jpeglib with mozjpeg is missing ({error}); install it with: pip install 'vcframe[mozjpeg]'"
            )


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The mozjpeg backend."""
    return [MozjpegCodec]

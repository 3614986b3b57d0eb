"""HEIC through pillow-heif (the extra `heic`): libheif, with x265 to encode and libde265 to decode.

Payloads travel in a box of a private type at the end of the file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

from ._boxes import append_box, cut_box

BRANDS = (b"heic", b"heix", b"mif1")


@dataclass(frozen=True)
class HeicOptions(Codec.Options):
    """Settings that change the bytes; one thread, 8 bits, full range; grey is always 4:0:0."""

    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """Resolution of the chroma planes; libheif averages 2x2 and repeats."""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = (
        "slow"
    )
    tune: Literal["psnr", "ssim", "grain"] = "psnr"
    """What x265 optimises. libheif's own choice is `ssim`."""


class HeicCodec(Codec):
    """One HEVC intra picture in a HEIF file, grey or full-range BT.601 YCbCr; the boxes cost 400 bytes."""

    name = "heic"
    extension = ".heic"
    aliases = (".heif", ".hif")
    # libheif halves its number to x265's rate factor: odd ones give the file of the next. It ends at 94.
    quality_scale = QualityScale(0, 94, 2, (0, 10, 18, 24, 30, 38, 44, 52, 60, 70, 82, 94), "libheif quality")
    traits = Traits(max_side=16384, block=8, speed="medium")
    Options = HeicOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code with x265 in one thread: its wavefronts on more change the bytes."""
        import pillow_heif

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        height, width = image.shape[:2]
        out = io.BytesIO()
        try:
            pillow_heif.encode(
                "L" if image.ndim == 2 else "RGB",
                (width, height),
                image.tobytes(),
                out,
                quality=int(quality),
                chroma=self.options.chroma.replace(":", ""),
                # BT.709 primaries, sRGB, BT.601, full range (ITU-T H.273)
                save_nclx_profile=True,
                color_primaries=1,
                transfer_characteristics=13,
                matrix_coefficients=6,
                full_range_flag=1,
                enc_params={
                    "preset": self.options.preset,
                    "tune": self.options.tune,
                    "x265:pools": "none",
                    "x265:wpp": "0",
                    "x265:frame-threads": "1",
                    # Else x265 codes intra pictures 3 steps below the QP it is given.
                    "x265:ipratio": "1",
                    # No level of HEVC has room for narrow pictures of more than about 4000 pixels.
                    "x265:allow-non-conformance": "1",
                },
            )
        except Exception as error:
            raise CodecError(f"heic: encoding failed: {error}") from error
        return out.getvalue()

    def decode(self, data: bytes) -> Image:
        """Decode the primary picture; grey stays `(H, W)`, alpha is dropped, 10 bits become 8."""
        shape = self.check_stream(data)
        try:
            image = np.asarray(_open(data))
        except Exception as error:
            raise CodecError(f"heic: decoding failed: {error}") from error
        # The second of two channels, or the fourth of four, is alpha.
        image = image[:, :, :3] if shape[2] == 3 else image.reshape(*image.shape[:2], -1)[:, :, 0]
        if image.dtype != np.uint8 or (*image.shape, 1)[:3] != shape:
            raise CodecError(f"heic: header says {shape}, decoded {image.dtype} {image.shape}")
        return np.array(image, order="C")

    def version(self) -> str:
        """libheif and the x265 inside pillow-heif."""
        import pillow_heif

        # x265 HEVC encoder (4.3+1-e9b8812)
        encoder = pillow_heif.libheif_info()["HEIF"].partition("(")[2].rstrip(")")
        return (
            f"libheif {pillow_heif.libheif_version()}, x265 {encoder} (pillow-heif {pillow_heif.__version__})"
        )

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the `meta` box with libheif."""
        if data[4:8] != b"ftyp" or data[8:12] not in BRANDS:
            raise CodecError("heic: not a HEIC file")
        try:
            file = _open(data)
            width, height = file.size
            return height, width, 1 if file.mode.startswith("L") else 3
        except Exception as error:
            raise CodecError(f"heic: not a HEIC file: {error}") from error

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a box."""
        if data[4:8] != b"ftyp" or data[8:12] not in BRANDS:
            raise CodecError("heic: not a HEIC file")
        return append_box(data, payload)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our box, the last."""
        return cut_box(data) if data[4:8] == b"ftyp" and data[8:12] in BRANDS else None

    def unavailable(self) -> str | None:
        """pillow-heif with x265 is needed."""
        try:
            import pillow_heif

            encoder = pillow_heif.libheif_info()["HEIF"]
        except Exception as error:
            return f"pillow-heif is missing ({error}); install it with: pip install 'vcframe[heic]'"
        if not encoder.startswith("x265"):
            return (
                f"pillow-heif was built without x265 ({encoder or 'no encoder'}); install its wheel from PyPI"
            )
        return None


def _open(data: bytes) -> Any:
    """The primary picture, not decoded yet."""
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The HEIC backend."""
    return [HeicCodec]

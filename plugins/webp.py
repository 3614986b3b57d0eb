"""Lossy WebP (VP8) through imagecodecs (libwebp).

Payloads travel in an unknown RIFF chunk after the picture, which the container specification (RFC 9649,
section 2.7.1.5) tells readers to ignore.
"""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

PAYLOAD_CHUNK = b"vcfr"
MAX_SIDE = 16383


@dataclass(frozen=True)
class WebpOptions(Codec.Options):
    """Settings that change the bytes; the file is always lossy, 4:2:0, without alpha."""

    method: int = 6
    """Effort, 0 (fastest) .. 6 (smallest)."""
    tune: Literal["default", "psnr"] = "default"
    """`psnr` spends the bits where they lower the error (libwebp: `sns_strength=0`, `segments=1`,
    `autofilter=1`): 7 % fewer bytes at equal PSNR. It needs the package webp to encode."""
    loop_filter: bool = True
    """VP8's smoothing of block edges, which a picture is shown with and no other block is predicted from. A
    trained network does more with the edges as they are. `false` needs the package webp to encode."""

    def __post_init__(self) -> None:
        if not 0 <= self.method <= 6:
            raise UsageError(f"codec webp: method={self.method!r} is outside 0..6")


class WebpCodec(Codec):
    """Lossy WebP, RGB. Quality 0 stands apart: quality 1 costs about 40 % more bytes."""

    name = "webp"
    extension = ".webp"
    quality_scale = QualityScale(
        0, 100, 1, (0, 1, 4, 12, 25, 41, 64, 79, 86, 91, 95, 100), "libwebp quality factor"
    )
    # VP8 transforms 4x4 blocks; prediction modes and quantisers change per 16x16 macroblock.
    traits = Traits(max_side=MAX_SIDE, grey=False, block=4, speed="medium")
    Options = WebpOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code lossy with one thread; libwebp's other settings are those of `WebPConfigInit`."""
        import imagecodecs

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        try:
            if self._is_tuned():
                return self._encode_tuned(image, quality)
            if max(image.shape) == MAX_SIDE:
                return self._encode_longest(image, quality)
            # imagecodecs is lossless unless told otherwise, whatever the level.
            return bytes(
                imagecodecs.webp_encode(
                    image, level=quality, lossless=False, method=self.options.method, numthreads=1
                )
            )
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"webp: encoding failed: {error}") from error

    def unaided(self) -> Codec:
        """With the loop filter."""
        return WebpCodec(max_pixels=self.max_pixels, **asdict(self.options) | {"loop_filter": True})

    def _is_tuned(self) -> bool:
        return self.options.tune == "psnr" or not self.options.loop_filter

    def _encode_tuned(self, image: Image, quality: float) -> bytes:
        """By the bindings that reach all of libwebp's settings: imagecodecs has but quality and method."""
        try:
            import webp
        except ImportError as error:
            option = "tune=psnr" if self.options.tune == "psnr" else "loop_filter=false"
            raise CodecError(f"webp: {option}: {error}; install it with: pip install webp") from error

        config = webp.WebPConfig.new(quality=quality, lossless=False)
        settings = config.ptr
        settings.method = self.options.method
        if self.options.tune == "psnr":
            settings.sns_strength, settings.segments, settings.autofilter = 0, 1, 1
        if not self.options.loop_filter:
            settings.autofilter, settings.filter_strength = 0, 0
        return bytes(webp.WebPPicture.from_numpy(image).encode(config).buffer())

    def _encode_longest(self, image: Image, quality: float) -> bytes:
        """By Pillow's libwebp: imagecodecs (2026.3.6) refuses the longest side that the format has."""
        from PIL import Image as PillowImage

        out = io.BytesIO()
        PillowImage.fromarray(image).save(
            out, "WEBP", lossless=False, quality=quality, method=self.options.method
        )
        return out.getvalue()

    def decode(self, data: bytes) -> Image:
        """Decode with libwebp; alpha is dropped."""
        import imagecodecs

        shape = self.check_stream(data)
        try:
            image = np.asarray(imagecodecs.webp_decode(data, hasalpha=False))
        except Exception as error:
            raise CodecError(f"webp: decoding failed: {error}") from error
        if image.shape != shape:
            raise CodecError(f"webp: header says {shape}, decoded {image.shape}")
        return np.ascontiguousarray(image)

    def version(self) -> str:
        """The libwebp inside imagecodecs, and the package that tunes."""
        import imagecodecs

        version = f"{imagecodecs.webp_version()} (imagecodecs {imagecodecs.__version__})"
        if not self._is_tuned():
            return version
        with contextlib.suppress(PackageNotFoundError):
            version += f", webp {package_version('webp')}"
        return version

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the size from the first chunk: VP8, VP8L or VP8X."""
        if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
            raise CodecError("webp: not a WebP file")
        kind, body = data[12:16], data[20:30]
        if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", body, 6)
            return height & 0x3FFF, width & 0x3FFF, 3
        if kind == b"VP8L" and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 3
        if kind == b"VP8X":
            if body[0] & 2:
                raise CodecError("webp: animations are not supported")
            return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1, 3
        raise CodecError("webp: no picture header found")

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a chunk inside the RIFF container."""
        end = _riff_end(data)
        if end is None:
            raise CodecError("webp: not a WebP file")
        chunk = PAYLOAD_CHUNK + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
        return b"RIFF" + struct.pack("<I", end - 8 + len(chunk)) + data[8:end] + chunk + data[end:]

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our chunk, the last of the container."""
        end = _riff_end(data)
        position = 12
        while end is not None and position + 8 <= end:
            (length,) = struct.unpack_from("<I", data, position + 4)
            after = position + 8 + length + length % 2
            if after > end:
                return None
            if data[position : position + 4] == PAYLOAD_CHUNK and after == end:
                head = b"RIFF" + struct.pack("<I", position - 8) + data[8:position]
                return head + data[end:], data[position + 8 : position + 8 + length]
            position = after
        return None

    def unavailable(self) -> str | None:
        """imagecodecs with its libwebp extension is needed."""
        try:
            import imagecodecs

            imagecodecs.webp_version()
        except Exception as error:
            return f"imagecodecs with libwebp is missing ({error}); install it with: pip install imagecodecs"
        return None


def _riff_end(data: bytes) -> int | None:
    """Where the RIFF container ends, or None where this is no complete WebP file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    end = 8 + int(struct.unpack_from("<I", data, 4)[0])
    return end if 12 <= end <= len(data) and end % 2 == 0 else None


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The WebP backend."""
    return [WebpCodec]

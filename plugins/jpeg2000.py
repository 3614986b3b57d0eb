"""JPEG 2000 through imagecodecs (OpenJPEG): raw codestreams, irreversible, no container boxes.

Payloads travel in a COM marker segment of the main header (ISO/IEC 15444-1, A.9.2), which decoders skip.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

SOC_SIZ = b"\xff\x4f\xff\x51"
COM, SOT = 0xFF64, 0xFF90
PAYLOAD_MARK = b"vc"
MAX_SEGMENT_BYTES = 65533
MIN_RESOLUTION_SIDE = 8
MIN_TILE_BYTES = 14
"""SOT and SOD, which every tile has."""


@dataclass(frozen=True)
class Jpeg2000Options(Codec.Options):
    """Settings that change the bytes; the 9/7 wavelet, the colour transform and one tile are fixed."""

    resolutions: int = 6
    """Number of resolutions, 1..33; fewer where the smallest would be less than 8 pixels high or wide."""

    def __post_init__(self) -> None:
        if not 1 <= self.resolutions <= 33:
            raise UsageError(f"codec jpeg2000: resolutions={self.resolutions!r} is outside 1..33")


class Jpeg2000Codec(Codec):
    """JPEG 2000 codestream, grey or RGB, 8 bits, one tile, one quality layer."""

    name = "jpeg2000"
    extension = ".j2k"
    aliases = (".j2c", ".jpc")
    quality_scale = QualityScale(
        18,
        50,
        0.1,
        (18, 20, 22, 24, 26, 28, 30, 32.5, 35, 38.5, 43, 50),
        "target PSNR in dB",
    )
    traits = Traits(max_side=65535, block=1, speed="medium")
    Options = Jpeg2000Options

    def encode(self, image: Image, quality: float) -> bytes:
        """Code towards a PSNR of `quality` dB over all samples; within 0.6 dB of it from 25 to 40 dB."""
        import imagecodecs

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        # The rule of imagecodecs itself, stated so that another version's rule cannot change the bytes.
        fitting = max(1, (min(image.shape[:2]) // MIN_RESOLUTION_SIDE).bit_length())
        # The stubs of imagecodecs know whole decibels only.
        jpeg2k_encode: Any = imagecodecs.jpeg2k_encode
        try:
            data: bytes = jpeg2k_encode(
                image,
                level=quality,
                codecformat="j2k",
                reversible=False,
                mct=image.ndim == 3,
                resolutions=min(self.options.resolutions, fitting),
                numthreads=1,
            )
        except Exception as error:
            raise CodecError(f"jpeg2000: encoding failed: {error}") from error
        # OpenJPEG signs its files with a 39-byte comment that says nothing about the picture.
        for start, marker, end in reversed(_segments(data)):
            if marker == COM:
                data = data[:start] + data[end:]
        return data

    def decode(self, data: bytes) -> Image:
        """Decode with OpenJPEG."""
        import imagecodecs

        shape = self.check_stream(data)
        try:
            image = np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1))
        except Exception as error:
            raise CodecError(f"jpeg2000: decoding failed: {error}") from error
        if image.dtype != np.uint8 or image.shape != (shape[:2] if shape[2] == 1 else shape):
            raise CodecError(f"jpeg2000: header says {shape}, decoded {image.dtype} {image.shape}")
        return np.ascontiguousarray(image)

    def version(self) -> str:
        """The OpenJPEG inside imagecodecs."""
        import imagecodecs

        return f"{imagecodecs.jpeg2k_version()} (imagecodecs {imagecodecs.__version__})"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the SIZ marker segment, which is always the first."""
        if data[:4] != SOC_SIZ or len(data) < 42:
            raise CodecError("jpeg2000: not a JPEG 2000 codestream (no SOC and SIZ markers)")
        right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, channels = struct.unpack_from(
            ">8IH", data, 8
        )
        components = data[42 : 42 + 3 * channels]
        if channels not in (1, 3) or components != b"\x07\x01\x01" * channels:
            raise CodecError("jpeg2000: only 8-bit grey or RGB without subsampling is supported")
        if min(tile_width, tile_height) == 0 or left >= right or top >= bottom:
            raise CodecError("jpeg2000: the SIZ marker segment is damaged")
        num_tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
        # Thousands of absent tiles keep OpenJPEG busy for a minute.
        if num_tiles * MIN_TILE_BYTES > len(data):
            raise CodecError(f"jpeg2000: {len(data)} bytes cannot hold the {num_tiles} tiles of the header")
        return bottom - top, right - left, channels

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Insert a COM marker segment before the first tile part."""
        position = _header_end(data)
        # Rcom = 0 says binary (A.9.2).
        body = b"\0\0" + PAYLOAD_MARK + payload
        if len(body) > MAX_SEGMENT_BYTES:
            raise CodecError(f"jpeg2000: a payload of {len(payload)} bytes does not fit in a COM segment")
        return data[:position] + struct.pack(">HH", COM, len(body) + 2) + body + data[position:]

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our COM marker segment, the last of the main header."""
        for start, marker, end in reversed(_segments(data)):
            body = data[start + 4 : end]
            if marker == COM and body.startswith(b"\0\0" + PAYLOAD_MARK):
                return data[:start] + data[end:], body[2 + len(PAYLOAD_MARK) :]
        return None

    def unavailable(self) -> str | None:
        """imagecodecs with its OpenJPEG extension is needed."""
        try:
            import imagecodecs

            imagecodecs.jpeg2k_version()
        except Exception as error:
            return f"imagecodecs with OpenJPEG is missing ({error}); install it with: pip install imagecodecs"
        return None


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """`(start, marker, end)` of each main-header marker segment, up to SOT or damage."""
    found: list[tuple[int, int, int]] = []
    position = 2
    while data[:4] == SOC_SIZ and position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        end = position + 2 + length
        if marker == SOT or marker < 0xFF00 or length < 2 or end > len(data):
            break
        found.append((position, marker, end))
        position = end
    return found


def _header_end(data: bytes) -> int:
    segments = _segments(data)
    if not segments:
        raise CodecError("jpeg2000: not a JPEG 2000 codestream (no SOC and SIZ markers)")
    return segments[-1][2]


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The JPEG 2000 backend."""
    return [Jpeg2000Codec]

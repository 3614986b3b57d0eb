"""AV1 still pictures through PyAV (FFmpeg with SVT-AV1 to encode and dav1d to decode), in memory.

Files are one temporal unit in the low-overhead bitstream format (AV1 specification, section 5.2); names are
those of the specification. SVT-AV1 codes 4:2:0 only, from 4 pixels a side: smaller pictures are extended by
repeating the edge, and a metadata OBU says how much. Payloads travel in a metadata OBU behind the picture.
Both have types for private use (section 6.7.1), which decoders drop.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

from ._annexb import Bits
from ._video import decode_picture, encode_planes, missing, padded, to_planes, versions

SEQUENCE_HEADER, METADATA = 1, 5
CROP_TYPE, PAYLOAD_TYPE = 30, 31
"""Of the metadata types 6..31, "unregistered user private"."""
PAYLOAD_MARK = b"vc"
TRAILING_BITS = b"\x80"
MIN_CODED_SIDE = 4
CAPABILITIES_VERSION_3, CAP_SYS_NICE = 0x20080522, 23
"""Of linux/capability.h."""


@dataclass(frozen=True)
class Av1Options(Codec.Options):
    """Settings that change the bytes; always 4:2:0, one thread, tuned for PSNR, without film grain."""

    preset: int = 4
    """Effort, 0 (smallest) .. 10 (fastest). 6 takes a quarter of the time of 4 and costs about 0.7 dB."""

    def __post_init__(self) -> None:
        if not 0 <= self.preset <= 10:
            raise UsageError(f"codec av1: preset={self.preset!r} is outside 0..10")


class Av1Codec(Codec):
    """One intra picture, 8 bits, full-range BT.601 YCbCr (OpenCV's fixed-point conversion)."""

    name = "av1"
    extension = ".obu"
    # 0 would be lossless; from 64 on SVT-AV1 coarsens its last quantiser.
    quality_scale = QualityScale(
        1, 70, 1, (70, 65, 62, 58, 52, 45, 38, 31, 21, 11, 5, 1), "constant rate factor CRF, lower is better"
    )
    # SVT-AV1 takes 16384 columns and 8704 rows.
    traits = Traits(max_side=8704, grey=False, block=8, speed="medium")
    Options = Av1Options

    def encode(self, image: Image, quality: float) -> bytes:
        """Code as a still picture (`avif=1`) at the constant quantiser that belongs to `quality`."""
        image = self.check_image(image)
        crf = int(self.quality_scale.check(quality))
        # SVT-AV1 tells the story of each picture on standard error unless its environment forbids it.
        os.environ.setdefault("SVT_LOG", "0")
        options = {
            "preset": str(self.options.preset),
            "svtav1-params": f"rc=0:aq-mode=0:crf={crf}:avif=1:lp=1:tune=1:scm=0:film-grain=0:enable-qm=0"
            ":enable-variance-boost=0:tile-rows=0:tile-columns=0",
        }
        coded = padded(image, MIN_CODED_SIDE, 1)
        try:
            with _ordinary_priority():
                data = encode_planes("libsvtav1", to_planes(coded, 1), 1, options)
        except Exception as error:
            raise CodecError(f"av1: encoding failed: {error}") from error
        rows, columns = (a - b for a, b in zip(coded.shape[:2], image.shape[:2], strict=True))
        if not (rows or columns):
            return data
        # Before the picture, so that a file cut short cannot lose it.
        (end,) = (unit.end for unit in _units(data) if unit.kind == SEQUENCE_HEADER)
        return data[:end] + _metadata(CROP_TYPE, bytes([rows, columns])) + data[end:]

    def decode(self, data: bytes) -> Image:
        """Decode with dav1d; damage that it notices is an error."""
        return decode_picture("av1", "libdav1d", data, self.check_stream(data))

    def version(self) -> str:
        """SVT-AV1 does not tell its number; it comes with PyAV's libraries."""
        return f"{versions()} with SVT-AV1"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the sequence header OBU."""
        units = _units(data)
        headers = [data[unit.body : unit.end] for unit in units if unit.kind == SEQUENCE_HEADER]
        if len(headers) != 1:
            raise CodecError(f"av1: {len(headers)} sequence headers found instead of one")
        try:
            height, width = _read_sequence_header(Bits(headers[0][:64]))
        except CodecError:
            raise
        except ValueError as error:
            raise CodecError("av1: the sequence header is damaged") from error
        crops = [crop for unit in units if (crop := _private(data, unit, CROP_TYPE)) is not None]
        rows, columns = crops[0] if crops and len(crops[0]) == 2 else (0, 0)
        if max(rows, columns) >= MIN_CODED_SIDE or max(height, width) > self.traits.max_side:
            raise CodecError(f"av1: {width}x{height} coded pixels, {columns} columns and {rows} rows hidden")
        return height - rows, width - columns, 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a metadata OBU of private type."""
        _units(data)
        return data + _metadata(PAYLOAD_TYPE, PAYLOAD_MARK + payload)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our metadata OBU, the last."""
        try:
            last = _units(data)[-1]
        except CodecError:
            return None
        body = _private(data, last, PAYLOAD_TYPE)
        if body is None or not body.startswith(PAYLOAD_MARK):
            return None
        return data[: last.start], body[len(PAYLOAD_MARK) :]

    def unavailable(self) -> str | None:
        """PyAV with SVT-AV1, and OpenCV for the colour conversion, are needed."""
        return missing("libsvtav1", "SVT-AV1")


@contextlib.contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Keep SVT-AV1 from making this thread and its own the most urgent of the machine, as it does for root.

    It tries real-time scheduling when it is first used, and keeps it; without the capability to do so, which
    each thread of Linux has for itself and hands on, it works as for anyone else.
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0)
    held, less = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or libc.capget(header, held) or not held[0] >> CAP_SYS_NICE & 1:
        yield
        return
    less[:] = [held[0] & ~(1 << CAP_SYS_NICE), *held[1:]]
    libc.capset(header, less)
    try:
        yield
    finally:
        libc.capset(header, held)


class _Unit(NamedTuple):
    """An open bitstream unit (OBU): its type and where it and its body lie."""

    kind: int
    start: int
    body: int
    end: int


def _units(data: bytes) -> list[_Unit]:
    """The OBUs that make up the file (section 5.3); raises `CodecError` where they do not fill it."""
    units = []
    start = 0
    while start < len(data):
        kind, extended, sized = data[start] >> 3 & 15, data[start] >> 2 & 1, data[start] >> 1 & 1
        # leb128 (section 4.10.5): seven bits to a byte, least significant first.
        size, body = 0, start + 1 + extended
        for shift in range(0, 56, 7):
            byte = data[body] if body < len(data) else 0
            size |= (byte & 127) << shift
            body += 1
            if byte < 128:
                break
        if data[start] & 0x81 or not sized or body + size > len(data):
            break
        units.append(_Unit(kind, start, body, body + size))
        start = body + size
    if not units or start != len(data):
        raise CodecError("av1: not an AV1 bitstream, or a truncated one")
    return units


def _metadata(kind: int, body: bytes) -> bytes:
    """A metadata OBU (section 5.8); the trailing bits must not be all zero."""
    content = bytes([kind]) + body + TRAILING_BITS
    size = bytearray()
    length = len(content)
    while length >= 128:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([METADATA << 3 | 2, *size, length]) + content


def _private(data: bytes, unit: _Unit, kind: int) -> bytes | None:
    """The body of a metadata OBU of type `kind`, or None where the unit is another."""
    content = data[unit.body : unit.end]
    if unit.kind != METADATA or len(content) < 2 or content[0] != kind or content[-1:] != TRAILING_BITS:
        return None
    return content[1:-1]


def _read_sequence_header(header: Bits) -> tuple[int, int]:
    """`(height, width)` of section 5.5; other than 8-bit 4:2:0 still pictures are refused."""
    profile, _, reduced = header.fixed(3), header.fixed(1), header.fixed(1)
    if profile != 0 or not reduced:
        raise CodecError("av1: only still pictures of the main profile are supported")
    header.fixed(5)
    bits = header.fixed(4) + 1, header.fixed(4) + 1
    width, height = (header.fixed(count) + 1 for count in bits)
    # 128x128 superblocks, filter intra, intra edge filter, superres, CDEF, restoration
    header.fixed(6)
    high_bitdepth, monochrome = header.fixed(1), header.fixed(1)
    if high_bitdepth or monochrome:
        raise CodecError("av1: only 8-bit 4:2:0 pictures are supported")
    return height, width


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The AV1 backend."""
    return [Av1Codec]

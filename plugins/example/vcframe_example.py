"""A small codec for vcframe: discrete cosine transform of 8x8 blocks, one quantiser step, zlib.

A file holds a header, the deflated coefficients and the CRC-32 of both:

    offset  size  field
    0       4     magic, "DCT1"
    4       4     height in pixels, big endian, as all that follow
    8       4     width in pixels
    12      1     channels: 1 grey, 3 YCbCr (BT.601, full range)
    13      1     quality, 1..50
    14      ..    zlib stream: high bytes, then low bytes of the coefficients, frequency by frequency
    end-4   4     CRC-32

Behind that may stand a payload, its length in one byte and the mark "priv".
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

vcframe_api = 1
"""The plugin API that this module is written for; vcframe checks it."""

Array = npt.NDArray[np.float64]

MAGIC = b"DCT1"
HEAD = struct.Struct(">4sIIBB")
CHECK_BYTES = 4
PAYLOAD_MARK = b"priv"
BLOCK = 8
MID_GREY = 128.0

# Rows are the cosines of the orthonormal DCT-II.
_FREQUENCY, _POSITION = np.mgrid[:BLOCK, :BLOCK]
DCT: Array = np.cos(np.pi * (2 * _POSITION + 1) * _FREQUENCY / (2 * BLOCK)) / 2
DCT[0] /= np.sqrt(2)
TO_YCBCR: Array = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


@dataclass(frozen=True)
class ExampleOptions(Codec.Options):
    """Every setting that changes the bytes, with its default."""

    level: int = 9
    """Effort of zlib, 1 (fastest) .. 9 (smallest)."""

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 9:
            raise UsageError(f"codec example: level={self.level!r} is outside 1..9")


class ExampleCodec(Codec):
    """Grey or colour, 8 bits, any size."""

    name = "example"
    extension = ".example"
    quality_scale = QualityScale(
        1, 50, 1, (1, 8, 15, 22, 29, 36, 43, 50), "quantiser step 256 to 2, halved by every 7"
    )
    traits = Traits(max_side=65535, block=BLOCK, speed="medium")
    Options = ExampleOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Transform, quantise, deflate."""
        image = self.check_image(image)
        quality = int(self.quality_scale.check(quality))
        height, width = image.shape[:2]
        channels = 3 if image.ndim == 3 else 1
        planes = np.asarray(image.reshape(height, width, channels), np.float64)
        if channels == 3:
            planes = planes @ TO_YCBCR.T
        planes[:, :, 0] -= MID_GREY
        quantised = np.rint(_forward(planes) / _step(quality)).astype(np.int16)
        # The mean of a block is close to that of its neighbour.
        quantised[0, 0] = np.diff(quantised[0, 0], axis=-1, prepend=np.int16(0))
        coefficients = quantised.astype(">i2").reshape(-1, 1).view(np.uint8)
        head = HEAD.pack(MAGIC, height, width, channels, quality)
        data = head + zlib.compress(coefficients.T.tobytes(), self.options.level)
        return data + struct.pack(">I", zlib.crc32(data))

    def decode(self, data: bytes) -> Image:
        """Undo `encode`; whatever is wrong with the data is a `CodecError`."""
        height, width, channels = self.check_stream(data)
        data, _ = self.extract(data) or (data, b"")
        quality = HEAD.unpack_from(data)[4]
        if data[-CHECK_BYTES:] != struct.pack(">I", zlib.crc32(data[:-CHECK_BYTES])):
            raise CodecError("example: the file is truncated or damaged (its CRC-32 is another)")
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        shape = (BLOCK, BLOCK, channels, rows, columns)
        num_bytes = 2 * int(np.prod(shape))
        try:
            # Never more than the header announces, whatever the stream would inflate to.
            inflated = zlib.decompressobj().decompress(data[HEAD.size : -CHECK_BYTES], num_bytes + 1)
        except zlib.error as error:
            raise CodecError(f"example: decoding failed: {error}") from error
        if len(inflated) != num_bytes:
            raise CodecError(f"example: {num_bytes} bytes announced, {len(inflated)} or more found")
        bytes_apart = np.frombuffer(inflated, np.uint8).reshape(2, -1)
        quantised = np.ascontiguousarray(bytes_apart.T).view(">i2").reshape(shape).astype(np.int16)
        quantised[0, 0] = np.cumsum(quantised[0, 0], axis=-1, dtype=np.int16)
        planes = _inverse(quantised * _step(quality))[:height, :width]
        planes[:, :, 0] += MID_GREY
        picture = planes @ np.linalg.inv(TO_YCBCR).T if channels == 3 else planes[:, :, 0]
        return np.ascontiguousarray(np.rint(picture).clip(0, 255).astype(np.uint8))

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the header."""
        if len(data) < HEAD.size + CHECK_BYTES or data[:4] != MAGIC:
            raise CodecError("example: not a file of this codec")
        _, height, width, channels, quality = HEAD.unpack_from(data)
        if channels not in (1, 3) or not 1 <= quality <= 50:
            raise CodecError("example: the header is damaged")
        return height, width, channels

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Put the payload behind the file."""
        return data + payload + bytes([len(payload)]) + PAYLOAD_MARK

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Undo `embed`."""
        end = len(data) - len(PAYLOAD_MARK) - 1
        if data[-len(PAYLOAD_MARK) :] != PAYLOAD_MARK or end < data[end]:
            return None
        return data[: end - data[end]], data[end - data[end] : end]

    def version(self) -> str:
        """All that can change the bytes: this module and zlib."""
        return f"dct 1, zlib {zlib.ZLIB_RUNTIME_VERSION}"


def _step(quality: int) -> np.float64:
    return np.float64(256 * 2 ** ((1 - quality) / 7))


def _forward(planes: Array) -> Array:
    """`(H, W, C)` to coefficients `(8, 8, C, rows, columns)`; edges repeat up to whole blocks."""
    height, width, channels = planes.shape
    padded = np.pad(planes, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    blocks = padded.reshape(-(-height // BLOCK), BLOCK, -(-width // BLOCK), BLOCK, channels)
    return np.asarray(np.einsum("ki,lj,ricjn->klnrc", DCT, DCT, blocks, optimize=True))


def _inverse(coefficients: Array) -> Array:
    """Coefficients `(8, 8, C, rows, columns)` to `(8 rows, 8 columns, C)`."""
    _, _, channels, rows, columns = coefficients.shape
    blocks = np.einsum("ki,lj,klnrc->ricjn", DCT, DCT, coefficients, optimize=True)
    return np.asarray(blocks).reshape(rows * BLOCK, columns * BLOCK, channels)


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The codecs of this plugin."""
    return [ExampleCodec]

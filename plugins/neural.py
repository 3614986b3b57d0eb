"""A small learned codec: an autoencoder (`_transform`) with a factorised prior, coded by constriction.

What is parsed depends on whole numbers alone: every symbol's table of frequencies is chosen by symbols
decoded before it, and the tables are part of the weights. So a file is parsed alike on every machine, while
its pixels, which come out of convolutions in floating point, may differ by one level between machines. (For
the same reason two machines may write different files of a picture; each reads the other's.) The extra
`neural` installs constriction, and `benchmarks/neural_codec.py` trains the weights.

A file, numbers little-endian:

    3 bytes   "vcn"
    1         version of the format, 1
    8         weights: the beginning of the SHA-256 of their file
    2, 2      height, width
    1         quality
    4         n, length of the range coder's words
    4         CRC-32 of the 21 bytes before and the n after
    n         the range coder's words of 32 bits, for each latent channel its symbols in raster order,
              those of context 0 first
    then any number of private data: 2 bytes of length and the data
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

from ._transform import BLOCK, NUM_LATENTS, analyse, quantise, synthesise

if TYPE_CHECKING:
    from torch import Tensor

Symbols = npt.NDArray[np.int32]

MAGIC, FORMAT = b"vcn", 1
HEADER = struct.Struct("<3sB8sHHBI")
CHECK = struct.Struct("<I")
LENGTH = struct.Struct("<H")
WEIGHTS_FILE = "neural.safetensors"

COARSEST_STEP, STEPS_PER_HALVING, BEST = 256.0, 6, 42

LARGEST_SYMBOL = 127
ESCAPE = 2 * LARGEST_SYMBOL + 1
"""Announces a symbol that the tables do not hold; 32 bits follow."""
NUM_DIFFERENCES = 3
"""The first channels, means of brightness and colours, are coded as differences to the left."""
NUM_BEFORE = 8
"""By how many channels before it a symbol's context is chosen."""
CONTEXT_LIMITS = np.array([1, 3, 6, 11, 20, 36])
NUM_CONTEXTS = len(CONTEXT_LIMITS) + 1


def step_of(quality: float) -> float:
    """The quantiser's step: 256 at quality 0, halved every 6."""
    return float(COARSEST_STEP * 2.0 ** (-quality / STEPS_PER_HALVING))


@dataclass(frozen=True)
class Weights:
    """A trained codec: its networks, and how symbols are coded."""

    digest: bytes
    """By which files name the weights."""
    arrays: dict[str, npt.NDArray[np.float16]]
    """The networks as stored."""
    tables: npt.NDArray[np.int32]
    """`(tables, ESCAPE + 1)` frequencies of the symbols -127..127 and the escape; each row sums to 2**24."""
    choice: npt.NDArray[np.uint8]
    """`(qualities, channels, contexts)`: which table."""

    @functools.cached_property
    def networks(self) -> dict[str, Tensor]:
        """The networks as `_transform` takes them."""
        import torch

        return {name: torch.from_numpy(array).float() for name, array in self.arrays.items()}

    @functools.cached_property
    def models(self) -> list[Any]:
        """constriction's models; frequencies of 24 bits are exact in its arithmetic, the same everywhere."""
        import constriction

        build = constriction.stream.model.Categorical
        return [build(row.astype(np.float32), perfect=False) for row in self.tables]


@functools.cache
def shipped_weights() -> Weights:
    """The weights of this release; raises `CodecError` where their file is missing or damaged."""
    try:
        return read_weights((importlib.resources.files(__package__) / WEIGHTS_FILE).read_bytes())
    except Exception as error:
        raise CodecError(f"neural: the weights cannot be read: {error}") from error


def read_weights(content: bytes) -> Weights:
    """The content of a safetensors file that `benchmarks/neural_codec.py` wrote."""
    import safetensors.numpy

    arrays = safetensors.numpy.load(content)
    tables, choice = arrays.pop("tables"), arrays.pop("choice")
    return Weights(hashlib.sha256(content).digest()[:8], arrays, tables, choice)


class NeuralCodec(Codec):
    """A learned codec of about 6000 multiplications a pixel; files need the weights that they name."""

    name = "neural"
    extension = ".vcn"
    quality_scale = QualityScale(
        0,
        BEST,
        1,
        (0, 4, 8, 12, 16, 20, 23, 26, 30, 34, 38, 42),
        "6 for each halving of the quantiser's step",
    )
    traits = Traits(max_side=65528, grey=False, block=BLOCK, speed="medium")

    def encode(self, image: Image, quality: float) -> bytes:
        """Analyse, quantise and code; sides are extended to multiples of 8 by repeating the edge."""
        import torch

        image = self.check_image(image)
        level = int(self.quality_scale.check(quality))
        weights = shipped_weights()
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
        try:
            with torch.inference_mode():
                x_BCHW = torch.from_numpy(padded).permute(2, 0, 1)[None].float()
                latents = analyse(weights.networks, x_BCHW, torch.tensor([step_of(level)]))
                coded = to_symbols(quantise(latents)[0].numpy().astype(np.int32))
            body = encode_symbols(weights, coded, level)
        except Exception as error:
            raise CodecError(f"neural: encoding failed: {error}") from error
        header = HEADER.pack(MAGIC, FORMAT, weights.digest, height, width, level, len(body))
        return header + CHECK.pack(zlib.crc32(header + body)) + body

    def decode(self, data: bytes) -> Image:
        """Parse by whole numbers, then synthesise."""
        import torch

        height, width, _ = self.check_stream(data)
        try:
            parts = _split(data)
            weights = shipped_weights()
            shape = -(-height // BLOCK), -(-width // BLOCK)
            latents = from_symbols(decode_symbols(weights, parts.body, shape, parts.level))
            with torch.inference_mode():
                latents_BCHW = torch.from_numpy(latents)[None].float()
                x_BCHW = synthesise(weights.networks, latents_BCHW, torch.tensor([step_of(parts.level)]))
                pixels = x_BCHW[0, :, :height, :width].round().clamp(0, 255).byte().permute(1, 2, 0)
        except Exception as error:
            raise CodecError(f"neural: decoding failed: {error}") from error
        return np.ascontiguousarray(pixels.numpy())

    def version(self) -> str:
        """The weights, by the name that files give them, and constriction, which writes the bytes."""
        from importlib.metadata import version

        weights = shipped_weights().digest.hex()
        return f"constriction {version('constriction')}, weights {weights} (torch {version('torch')})"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the header and check it; other weights than the shipped ones are refused."""
        parts = _split(data)
        ours = shipped_weights().digest
        if parts.digest != ours:
            raise CodecError(
                f"neural: the file needs weights {parts.digest.hex()}, this release has {ours.hex()}: "
                "install the release that wrote it"
            )
        return parts.height, parts.width, 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append private data."""
        _split(data)
        return data + LENGTH.pack(len(payload)) + payload

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut the last private data."""
        try:
            private = _split(data).private
        except CodecError:
            return None
        return (data[: private[-1]], data[private[-1] + LENGTH.size :]) if private else None

    def unavailable(self) -> str | None:
        """constriction is needed."""
        try:
            import constriction  # noqa: F401
        except ImportError as error:
            return f"constriction is missing ({error}); install it with: pip install 'vcframe[neural]'"
        return None


@dataclass(frozen=True)
class _Parts:
    digest: bytes
    height: int
    width: int
    level: int
    body: bytes
    private: list[int]
    """Where each of the private data begins."""


def _split(data: bytes) -> _Parts:
    start = HEADER.size + CHECK.size
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise CodecError("neural: not a file of this codec")
    _, number, digest, height, width, level, length = HEADER.unpack_from(data)
    if number != FORMAT:
        raise CodecError(f"neural: version {number} of the format; this release reads {FORMAT}")
    body = data[start : start + length]
    (check,) = CHECK.unpack_from(data, HEADER.size)
    if len(body) != length or check != zlib.crc32(data[: HEADER.size] + body) or length % 4 or level > BEST:
        raise CodecError("neural: the file is truncated or damaged")
    return _Parts(digest, height, width, level, body, list(_private(data, start + length)))


def _private(data: bytes, start: int) -> Iterator[int]:
    while start < len(data):
        yield start
        size = LENGTH.unpack_from(data, start)[0] if start + LENGTH.size <= len(data) else len(data)
        start += LENGTH.size + size
    if start != len(data):
        raise CodecError("neural: the file is truncated or damaged")


def to_symbols(latents: Symbols) -> Symbols:
    """`(..., channels, rows, columns)`; of the first channels the difference to the left, or above."""
    symbols = latents.copy()
    means = latents[..., :NUM_DIFFERENCES, :, :]
    symbols[..., :NUM_DIFFERENCES, :, 1:] -= means[..., :-1]
    symbols[..., :NUM_DIFFERENCES, 1:, 0] -= means[..., :-1, 0]
    return symbols


def from_symbols(symbols: Symbols) -> Symbols:
    """Inverse of `to_symbols`."""
    latents = symbols.copy()
    means = latents[..., :NUM_DIFFERENCES, :, :]
    means[..., 0] = means[..., 0].cumsum(-1)
    latents[..., :NUM_DIFFERENCES, :, :] = means.cumsum(-1)
    return latents


def spread(symbols: Symbols) -> Symbols:
    """Sum over 3x3 positions of the magnitudes, none counted as more than 2."""
    small = np.minimum(np.abs(symbols), 2)
    rows = small.copy()
    rows[..., 1:, :] += small[..., :-1, :]
    rows[..., :-1, :] += small[..., 1:, :]
    sums = rows.copy()
    sums[..., 1:] += rows[..., :-1]
    sums[..., :-1] += rows[..., 1:]
    return sums


def contexts(before: Symbols) -> npt.NDArray[np.intp]:
    """`(channels, rows, columns)` of `spread` to contexts 0 .. 6 `(rows, columns)`."""
    return np.asarray(np.digitize(before[-NUM_BEFORE:].sum(0), CONTEXT_LIMITS))


def encode_symbols(weights: Weights, symbols: Symbols, level: int) -> bytes:
    """`(channels, rows, columns)` to the range coder's words."""
    import constriction

    coder = constriction.stream.queue.RangeEncoder()
    spreads = spread(symbols)
    clipped = np.where(np.abs(symbols) <= LARGEST_SYMBOL, symbols + LARGEST_SYMBOL, ESCAPE).astype(np.int32)
    for channel in range(NUM_LATENTS):
        context = contexts(spreads[:channel])
        for number in range(NUM_CONTEXTS):
            here = context == number
            if here.any():
                model = weights.models[weights.choice[level, channel, number]]
                coder.encode(clipped[channel][here], model)
        for value in symbols[channel][clipped[channel] == ESCAPE].tolist():
            for half in (value >> 16 & 0xFFFF, value & 0xFFFF):
                coder.encode(half, constriction.stream.model.Uniform(1 << 16))
    return bytes(coder.get_compressed().astype("<u4").tobytes())


def decode_symbols(weights: Weights, body: bytes, shape: tuple[int, int], level: int) -> Symbols:
    """Inverse of `encode_symbols` for `(rows, columns)`."""
    import constriction

    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(body, "<u4").astype(np.uint32))
    symbols = np.zeros((NUM_LATENTS, *shape), np.int32)
    spreads = np.zeros_like(symbols)
    for channel in range(NUM_LATENTS):
        context = contexts(spreads[:channel])
        clipped = np.zeros(shape, np.int32)
        for number in range(NUM_CONTEXTS):
            here = context == number
            if here.any():
                model = weights.models[weights.choice[level, channel, number]]
                clipped[here] = decoder.decode(model, int(here.sum()))
        values = clipped - LARGEST_SYMBOL
        for row, column in np.argwhere(clipped == ESCAPE):
            high, low = (decoder.decode(constriction.stream.model.Uniform(1 << 16)) for _ in range(2))
            values[row, column] = np.uint32(high << 16 | low).astype(np.int32)
        symbols[channel] = values
        spreads[channel] = spread(values)
    return symbols


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The learned codec."""
    return [NeuralCodec]

"""What vcframe adds to a codec's file so that it can be restored; packing, parsing, checking.

The addition is a payload of 11 bytes, or more with coefficients (integers unsigned, big endian):

    offset  size  field
    0       1     bits 7..4 version of this layout: 1, or 2 with coefficients
                  bit  3    1 if the original picture was grey
                  bits 2..0 scale: the original has `scale` times the sides of the coded picture
    1       4     model id: the first four bytes of the SHA-256 of the model's weights
    5       1     quality level that the networks were given: the unit quality in steps of 1/255
    6       1     bits 7..4 height trim, bits 3..0 width trim: original side = coded side * scale - trim
    7       1     m, number of the following bytes; version 2 only, as they are
    8       m     coefficients of the adaptation, plus 8, two a byte, the first in bits 7..4
    end - 4 4     CRC-32 of the container's head (if any), all before it and the codec's stream, in this order

A codec that can `embed` carries the payload in its format's own place, after a mark that tells it from other
programs' data, so the file stays an ordinary file of the format. Any other codec's stream goes into the
generic container:

    offset  size  field
    0       4     magic, "VCF1"
    4       1     n, length of the codec's name in bytes
    5       n     the codec's name, ASCII
    5 + n   p     payload
    5+n+p   rest  the codec's stream

The check value is verified before a codec sees a byte of the stream: decoders accept many damaged streams
silently, and some never return from one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from vcframe.codec import Codec, CodecError, VcframeError
from vcframe.registry import guarded

VERSION = 1
ADAPTED_VERSION = 2
PAYLOAD_BYTES = 11
"""Length of a payload without coefficients."""
ZERO_LEVEL = 8
"""What a coefficient of 0 is written as."""
CONTAINER_MAGIC = b"VCF1"
CONTAINER_EXTENSION = ".vcf"
NUM_LEVELS = 256
MAX_SCALE = 7


class StreamError(VcframeError):
    """A file carries a vcframe payload that is damaged or of an unknown version."""


@dataclass(frozen=True)
class Payload:
    """What a decoder must know besides the codec's stream."""

    model_id: str
    """8 lower-case hexadecimal digits."""
    scale: int
    """Original sides over coded sides, 1..7."""
    level: int
    """Unit quality times 255, 0..255."""
    trims: tuple[int, int]
    """Rows and columns to drop after scaling, each below `scale`."""
    grey: bool
    """Whether the original picture was grey (a codec without grey codes three equal channels)."""
    coefficients: tuple[int, ...] = ()
    """Of the adaptation, an even number, each -7..7; those left out are 0."""

    @property
    def unit(self) -> float:
        """The quality that the networks were given, 0 worst .. 1 best."""
        return self.level / (NUM_LEVELS - 1)

    def size(self, coded: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the original picture from those of the coded one."""
        return coded[0] * self.scale - self.trims[0], coded[1] * self.scale - self.trims[1]


@dataclass(frozen=True)
class Unpacked:
    """A file taken apart; its check value was right."""

    codec_name: str
    stream: bytes
    payload: Payload


def coefficient_bytes(number: int) -> int:
    """What so many coefficients, an even number, add to a payload."""
    return 1 + number // 2 if number else 0


def pack(codec: Codec, stream: bytes, payload: Payload) -> bytes:
    """Return the file that carries `stream` and `payload`: the codec's own format if it can embed."""
    head = _payload_head(payload)
    try:
        return codec.embed(stream, head + _check(head, stream))
    except NotImplementedError:
        name = codec.name.encode("ascii")
        prefix = CONTAINER_MAGIC + bytes([len(name)]) + name
        return prefix + head + _check(prefix, head, stream) + stream


def unpack(data: bytes, codecs: Iterable[Codec]) -> Unpacked | None:
    """Take a file apart, asking each codec whether it finds a payload in its own format.

    Returns None for a file that carries no payload. Raises `StreamError` if it carries one that is damaged
    or of an unknown version, unless another codec finds an intact one: a codec that takes every file for its
    own, or fails on some, does not spoil those of others.
    """
    if is_container(data):
        return _unpack_container(data)
    damage: StreamError | None = None
    for codec in codecs:
        try:
            with guarded(codec):
                found = codec.extract(data)
                if found is not None:
                    stream, raw = found
                    return Unpacked(codec.name, stream, _parse(raw, b"", stream))
        except StreamError as error:
            damage = damage or error
        except CodecError:
            continue
    if damage is not None:
        raise damage
    return None


def is_container(data: bytes) -> bool:
    """Whether a file is the generic container rather than the codec's own format."""
    return data.startswith(CONTAINER_MAGIC)


def _unpack_container(data: bytes) -> Unpacked:
    name_start = len(CONTAINER_MAGIC) + 1
    payload_start = name_start + (data[name_start - 1] if len(data) >= name_start else 0)
    stream_start = payload_start + _payload_bytes(data[payload_start:])
    if len(data) <= stream_start:
        raise StreamError(f"truncated vcframe container: it ends after {len(data)} bytes")
    prefix, stream = data[:payload_start], data[stream_start:]
    payload = _parse(data[payload_start:stream_start], prefix, stream)
    return Unpacked(prefix[name_start:].decode("ascii", "replace"), stream, payload)


def _parse(raw: bytes, prefix: bytes, stream: bytes) -> Payload:
    """Verify and read the payload `raw` of `stream`, `prefix` being the head of its container."""
    if len(raw) != (num_bytes := _payload_bytes(raw)):
        raise StreamError(f"vcframe file is damaged: its payload has {len(raw)} bytes, not {num_bytes}")
    head, check = raw[:-4], raw[-4:]
    version = head[0] >> 4
    if version not in (VERSION, ADAPTED_VERSION):
        raise StreamError(
            f"vcframe payload of version {version}; this vcframe reads versions {VERSION} and "
            f"{ADAPTED_VERSION}: the file is damaged or was written by another vcframe"
        )
    if check != _check(prefix, head, stream):
        raise StreamError("vcframe file is damaged: its check value (CRC-32) does not match its contents")
    scale, trims = head[0] & 7, (head[6] >> 4, head[6] & 15)
    if scale < 1 or max(trims) >= scale:
        raise StreamError(f"vcframe payload is invalid: scale {scale} with trims {trims[0]} and {trims[1]}")
    levels = tuple(half - ZERO_LEVEL for byte in head[8:] for half in (byte >> 4, byte & 15))
    return Payload(head[1:5].hex(), scale, head[5], trims, bool(head[0] & 8), levels)


def _payload_bytes(raw: bytes) -> int:
    """How long the payload is that begins here."""
    adapted = len(raw) > 7 and raw[0] >> 4 == ADAPTED_VERSION
    return PAYLOAD_BYTES + 1 + raw[7] if adapted else PAYLOAD_BYTES


def _payload_head(payload: Payload) -> bytes:
    """Everything but the check value; a payload that does not fit its fields is a programmer's mistake."""
    model_id = bytes.fromhex(payload.model_id)
    assert len(model_id) == 4, f"model id must have 8 hexadecimal digits, got {payload.model_id!r}"
    assert 1 <= payload.scale <= MAX_SCALE, payload.scale
    assert 0 <= payload.level < NUM_LEVELS, payload.level
    assert all(0 <= trim < payload.scale for trim in payload.trims), payload
    version = ADAPTED_VERSION if payload.coefficients else VERSION
    flags = version << 4 | payload.grey << 3 | payload.scale
    head = bytes([flags, *model_id, payload.level, payload.trims[0] << 4 | payload.trims[1]])
    if not payload.coefficients:
        return head
    levels = [ZERO_LEVEL + level for level in payload.coefficients]
    assert len(levels) % 2 == 0, payload
    assert all(1 <= level <= 15 for level in levels), payload
    pairs = bytes(first << 4 | second for first, second in zip(levels[::2], levels[1::2], strict=True))
    return head + bytes([len(pairs)]) + pairs


def _check(*parts: bytes) -> bytes:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(4, "big")

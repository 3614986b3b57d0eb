"""The payload's bytes, the generic container, and damage."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

from vcframe import Codec, Image, QualityScale, Traits
from vcframe.stream import PAYLOAD_BYTES, Payload, StreamError, pack, unpack

PAYLOAD = Payload(model_id="0badcafe", scale=2, level=128, trims=(1, 0), grey=True)


class Raw(Codec):
    """Stores the pixels; its format has no place for a payload."""

    name = "raw"
    extension = ".raw"
    quality_scale = QualityScale(0, 2, 1, (0, 1, 2), "unused")
    traits = Traits()

    def encode(self, image: Image, quality: float) -> bytes:
        return struct.pack(">II", *image.shape[:2]) + image.tobytes()

    def decode(self, data: bytes) -> Image:
        height, width, _ = self.probe(data)
        return np.frombuffer(data, np.uint8, offset=8).reshape(height, width, -1)

    def version(self) -> str:
        return "raw 1"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        return (*struct.unpack(">II", data[:8]), 3)


class Trailing(Raw):
    """The same with a payload after the pixels."""

    name = "trailing"
    extension = ".trailing"

    def embed(self, data: bytes, payload: bytes) -> bytes:
        return data + payload + b"end"

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        cut = len(data) - 3 - PAYLOAD_BYTES
        return (data[:cut], data[cut:-3]) if data.endswith(b"end") else None


def test_the_payload_has_the_documented_bytes() -> None:
    head = b"\x1a\x0b\xad\xca\xfe\x80\x10"
    expected = b"STREAM" + head + zlib.crc32(head + b"STREAM").to_bytes(4, "big") + b"end"
    assert pack(Trailing(), b"STREAM", PAYLOAD) == expected


def test_the_container_has_the_documented_bytes() -> None:
    prefix, head = b"VCF1\x03raw", b"\x1a\x0b\xad\xca\xfe\x80\x10"
    check = zlib.crc32(prefix + head + b"STREAM").to_bytes(4, "big")
    assert pack(Raw(), b"STREAM", PAYLOAD) == prefix + head + check + b"STREAM"


@pytest.mark.parametrize("codec", [Raw(), Trailing()])
@pytest.mark.parametrize(
    "payload",
    [
        PAYLOAD,
        Payload("00000000", scale=1, level=0, trims=(0, 0), grey=False),
        Payload("ffffffff", scale=7, level=255, trims=(6, 3), grey=True),
    ],
)
def test_what_was_packed_is_unpacked(codec: Codec, payload: Payload) -> None:
    unpacked = unpack(pack(codec, b"STREAM", payload), [Raw(), Trailing()])
    assert unpacked is not None
    assert (unpacked.codec_name, unpacked.stream, unpacked.payload) == (codec.name, b"STREAM", payload)


def test_units_and_sizes() -> None:
    assert PAYLOAD.unit == 128 / 255
    assert PAYLOAD.size((10, 20)) == (19, 40)


def test_a_file_without_payload_is_nobodys() -> None:
    assert unpack(b"STREAM", [Raw(), Trailing()]) is None
    assert unpack(b"", [Raw(), Trailing()]) is None


@pytest.mark.parametrize("payload", [b"a comment....", b"vc", b"", b"vc\x12" + bytes(20)])
def test_a_payload_of_another_kind_is_refused(payload: bytes) -> None:
    class Holder(Trailing):
        def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
            return b"STREAM", payload

    with pytest.raises(StreamError, match="damaged"):
        unpack(b"STREAM", [Holder()])


@pytest.mark.parametrize("codec", [Raw(), Trailing()])
def test_no_flipped_bit_passes(codec: Codec) -> None:
    """Each bit of the file in turn: an error, or (where the wrapping is hit) no payload at all."""
    data = pack(codec, b"STREAM", PAYLOAD)
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        try:
            assert unpack(bytes(damaged), [Raw(), Trailing()]) is None, position
        except StreamError:
            continue


@pytest.mark.parametrize("codec", [Raw(), Trailing()])
def test_a_flipped_bit_of_the_stream_is_named_damage(codec: Codec) -> None:
    damaged = pack(codec, b"STREAM", PAYLOAD).replace(b"STREAM", b"STREAN")
    with pytest.raises(StreamError, match=r"damaged.*CRC-32"):
        unpack(damaged, [Trailing()])


def test_a_truncated_container_is_refused() -> None:
    data = pack(Raw(), b"STREAM", PAYLOAD)
    for length in range(4, len(data)):
        with pytest.raises(StreamError):
            unpack(data[:length], [])


def _file_with_head(head: bytes) -> bytes:
    """A file whose check value is right whatever its head says."""
    return Trailing().embed(b"STREAM", head + zlib.crc32(head + b"STREAM").to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x3a\x0b\xad\xca\xfe\x80\x10", r"version 3.*reads versions 1 and 2"),
        (b"\x18\x0b\xad\xca\xfe\x80\x00", "scale 0"),
        (b"\x12\x0b\xad\xca\xfe\x80\x20", "trims 2 and 0"),
        (b"\x12\x0b\xad\xca\xfe\x80\x02", "trims 0 and 2"),
    ],
)
def test_heads_that_no_vcframe_wrote_are_refused(head: bytes, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        unpack(_file_with_head(head), [Trailing()])


@pytest.mark.parametrize(
    "wrong",
    [{"model_id": "abc"}, {"scale": 0}, {"scale": 8}, {"level": 256}, {"trims": (2, 0)}, {"trims": (0, -1)}],
)
def test_fields_that_do_not_fit_are_not_written(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "model_id": "0badcafe",
        "scale": 2,
        "level": 128,
        "trims": (0, 0),
        "grey": False,
    }
    with pytest.raises((AssertionError, ValueError)):
        pack(Raw(), b"STREAM", Payload(**(fields | wrong)))

"""JPEG XL: headers and boxes by the book (ISO/IEC 18181-1 and -2), libjxl's other modes beside."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from backends import colour, grey, make_codec

from vcframe import Codec, CodecError, Image, UsageError


@pytest.fixture
def codec() -> Codec:
    return make_codec("jpegxl")


def libjxl_file(image: Any, **settings: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, effort=3, numthreads=1, **settings))


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of the container; their lengths must add up."""
    found = []
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + length]))
        at += length
    assert at == len(data)
    return found


def codestream(*fields: tuple[int, int]) -> bytes:
    """The marker and `(value, bits)` fields, least significant bit first (18181-1, annex B)."""
    total = position = 0
    for value, count in fields:
        total |= value << position
        position += count
    return b"\xff\x0a" + total.to_bytes(40, "little")


def test_files_are_naked_and_lossy(codec: Codec) -> None:
    for image in (colour(), grey()):
        for distance in (25, 0.1):
            data = codec.encode(image, distance)
            assert data.startswith(b"\xff\x0a")
            assert not np.array_equal(codec.decode(data), image)


def test_quality_is_the_distance_of_libjxl(codec: Codec) -> None:
    for image in (colour(), grey()):
        direct = imagecodecs.jpegxl_encode(image, distance=2.7, lossless=False, effort=5, decodingspeed=0)
        assert np.array_equal(codec.roundtrip(image, 2.7)[0], imagecodecs.jpegxl_decode(direct))


def test_the_number_of_threads_does_not_matter(codec: Codec) -> None:
    image = np.resize(colour(), (600, 700, 3))
    data = codec.encode(image, 4)
    assert data == imagecodecs.jpegxl_encode(
        image, distance=4, lossless=False, effort=5, decodingspeed=0, usecontainer=False, numthreads=4
    )


def test_options_change_the_bytes_and_have_bounds(codec: Codec) -> None:
    assert codec == make_codec("jpegxl", effort=5, decoding_speed=0)
    others: list[dict[str, int]] = [{"effort": 1}, {"effort": 7}, {"decoding_speed": 4}]
    files = [make_codec("jpegxl", **options).encode(colour(), 3) for options in others]
    assert len({codec.encode(colour(), 3), *files}) == 4
    for options in ({"effort": 0}, {"effort": 10}, {"decoding_speed": 5}):
        with pytest.raises(UsageError, match=next(iter(options))):
            make_codec("jpegxl", **options)


# The header


@pytest.mark.parametrize(
    "size", [(8, 8), (256, 8), (264, 256), (7, 9), (512, 513), (40, 60), (30, 60), (90, 160)]
)
def test_probe_reads_what_libjxl_writes(codec: Codec, size: tuple[int, int]) -> None:
    for image, channels in ((colour(), 3), (grey(), 1)):
        data = libjxl_file(np.resize(image, size + image.shape[2:]), distance=9.0, lossless=False)
        assert codec.probe(data) == (*size, channels)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # small, height / 8 - 1, ratio; all_default
        ([(1, 1), (31, 5), (1, 3), (1, 1)], (256, 256, 3)),
        ([(1, 1), (4, 5), (2, 3), (1, 1)], (40, 48, 3)),
        ([(1, 1), (2, 5), (0, 3), (6, 5), (1, 1)], (24, 56, 3)),
        # not small: a selector of two bits, then 9, 13, 18 or 30 bits of height - 1
        ([(0, 1), (0, 2), (99, 9), (7, 3), (1, 1)], (100, 200, 3)),
        ([(0, 1), (1, 2), (1079, 13), (5, 3), (1, 1)], (1080, 1920, 3)),
        ([(0, 1), (2, 2), (99_999, 18), (0, 3), (0, 2), (0, 9), (1, 1)], (100_000, 1, 3)),
    ],
)
def test_probe_reads_headers_written_by_the_book(
    codec: Codec, fields: list[tuple[int, int]], expected: tuple[int, int, int]
) -> None:
    assert codec.probe(codestream(*fields)) == expected


def test_huge_pictures_are_refused(codec: Codec) -> None:
    data = codestream((0, 1), (3, 2), ((1 << 30) - 1, 30), (1, 3), (1, 1))
    with pytest.raises(CodecError, match="header claims 1073741824x1073741824"):
        codec.decode(data)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9), np.uint16),
        np.zeros((9, 9, 3), np.float32),
    ],
    ids=["alpha", "16 bits", "float"],
)
def test_other_kinds_of_picture_are_refused_in_one_line(codec: Codec, image: Any) -> None:
    with pytest.raises(CodecError, match="only plain 8-bit grey or RGB"):
        codec.decode(libjxl_file(image, lossless=True))


def test_other_files_of_libjxl_are_read(codec: Codec) -> None:
    images: list[Image] = [colour(), grey()]
    for image in images:
        for container in (True, False):
            data = libjxl_file(image, lossless=True, usecontainer=container)
            assert np.array_equal(codec.decode(data), image)
            assert codec.probe(data)[:2] == image.shape[:2]


# The container


def test_a_payload_puts_the_codestream_into_a_container(codec: Codec) -> None:
    data = codec.encode(colour(), 3)
    carrying = codec.embed(data, b"ours")
    reference = libjxl_file(colour(), lossless=False, distance=3.0, usecontainer=True)
    # libjxl's own container in front, and a box of our own type behind.
    assert boxes(carrying)[:2] == boxes(reference)[:2]
    assert boxes(carrying)[2:] == [(b"jxlc", data), (b"vcfw", b"ours")]
    assert np.array_equal(imagecodecs.jpegxl_decode(carrying), imagecodecs.jpegxl_decode(data))


def test_a_file_that_had_a_container_keeps_it(codec: Codec) -> None:
    data = libjxl_file(colour(), lossless=False, distance=3.0, usecontainer=True)
    assert codec.extract(data) is None
    carrying = codec.embed(data, b"ours")
    assert boxes(carrying) == [*boxes(data), (b"vcfr", b"ours")]
    assert codec.extract(carrying) == (data, b"ours")
    assert np.array_equal(codec.decode(carrying), codec.decode(data))


def test_a_codestream_in_parts_is_probed(codec: Codec) -> None:
    data = codec.encode(grey(), 3)
    head = codec.embed(data, b"")[:32]
    # Each part begins with its number; the top bit marks the last (18181-2, jxlp).
    parts = [(0, data[:60]), (1 << 31 | 1, data[60:])]
    split = head + b"".join(struct.pack(">I4sI", 12 + len(part), b"jxlp", n) + part for n, part in parts)
    assert codec.probe(split) == (96, 145, 1)
    assert np.array_equal(codec.decode(split), codec.decode(data))

"""AV1 against libaom's decoder (imagecodecs, in an AVIF file), Pillow's colours, the syntax of AV1."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import av
import imagecodecs
import numpy as np
import PIL.Image
import pytest
from backends import colour, grey, largest_difference, make_codec, psnr

from vcframe import Codec, CodecError, Image, UsageError

DELIMITER = b"\x12\0"
SEQUENCE, METADATA, FRAME = 1, 5, 6


@pytest.fixture
def codec() -> Codec:
    return make_codec("av1", preset=8)


def units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """`(obu_type, bytes)` of units below 16384 bytes (AV1 specification, section 5.3)."""
    at = 0
    while at < len(data):
        assert data[at] & 0b10000111 == 2, "no extension, with a size"
        size, first = data[at + 1], 2
        if size >= 128:
            size, first = size - 128 + (data[at + 2] << 7), 3
        yield data[at] >> 3, data[at + first : at + first + size]
        at += first + size
    assert at == len(data)


def decode_libaom(data: bytes) -> Image:
    """The stream in the boxes that Pillow writes around a picture of its size; libaom decodes."""
    frame = frame_of(data)
    out = io.BytesIO()
    blank = PIL.Image.new("RGB", (frame.width, frame.height))
    blank.save(out, "AVIF", range="full", speed=10, subsampling="4:2:0")
    boxes = bytearray(out.getvalue())
    start = boxes.index(b"mdat") + 4
    # The item location box ends with the extent's offset and length (ISO/IEC 14496-12, clause 8.11.3).
    extent = boxes.index(b"iinf") - 12
    assert struct.unpack_from(">II", boxes, extent) == (start, len(boxes) - start)
    item = data.removeprefix(DELIMITER)
    struct.pack_into(">I", boxes, extent + 4, len(item))
    struct.pack_into(">I", boxes, start - 8, 8 + len(item))
    return np.asarray(imagecodecs.avif_decode(bytes(boxes[:start]) + item))


def frame_of(data: bytes) -> Any:
    """FFmpeg's demuxer for raw AV1, then dav1d."""
    frames = list(av.open(io.BytesIO(data), format="obu").decode(video=0))
    assert len(frames) == 1
    return frames[0]


def planes_of(data: bytes) -> list[Image]:
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame_of(data).planes
    ]


def ycbcr(image: Image) -> list[Image]:
    """Pillow's conversion, which is JFIF's: full-range BT.601."""
    return [np.asarray(plane) for plane in PIL.Image.fromarray(image).convert("YCbCr").split()]


# What the file holds


def test_a_file_is_one_temporal_unit_of_one_frame(codec: Codec) -> None:
    data = codec.encode(colour(), 40)
    assert data.startswith(DELIMITER)
    assert [kind for kind, _ in units(data)] == [2, SEQUENCE, FRAME]


def test_pictures_are_flagged_as_full_range_bt601(codec: Codec) -> None:
    frame = frame_of(codec.encode(colour(), 40))
    assert frame.format.name in ("yuv420p", "yuvj420p")
    # Matrix 6 is SMPTE 170M, range 2 is full.
    assert (int(frame.color_range), int(frame.colorspace)) == (2, 6)


def test_planes_hold_bt601_and_averaged_chroma(codec: Codec) -> None:
    image = np.ascontiguousarray(colour()[:, :144])
    y, *chroma = planes_of(codec.encode(image, 1))
    assert psnr(y, ycbcr(image)[0]) > 48
    for ours, reference in zip(chroma, ycbcr(image)[1:], strict=True):
        means = reference.reshape(48, 2, 72, 2).mean(axis=(1, 3))
        assert np.abs(ours - means).mean() < 1


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (33, 31), (64, 48), (96, 145), (5000, 4)], ids=str)
def test_libaom_shows_what_dav1d_shows(codec: Codec, size: tuple[int, int]) -> None:
    image = np.resize(colour(), (*size, 3))
    data = codec.encode(image, 45)
    for stream in (data, codec.embed(data, bytes(range(13)))):
        theirs = decode_libaom(stream)
        assert theirs.shape == image.shape
        # libavif doubles chroma in its own way; luma (weights of BT.601) must agree.
        weights = np.array([0.299, 0.587, 0.114])
        assert np.abs((theirs.astype(float) - codec.decode(stream)) @ weights).mean() <= 1.5
        assert np.array_equal(theirs, decode_libaom(data))


def test_grey_pictures_need_three_channels(codec: Codec) -> None:
    with pytest.raises(CodecError, match=r"\(H, W, 3\)"):
        codec.encode(grey(), 50)


def test_quality_reaches_below_quantiser_63(codec: Codec) -> None:
    sizes = [len(codec.encode(colour(), quality)) for quality in (70, 66, 63, 40)]
    assert sizes == sorted(set(sizes))
    assert not codec.quality_scale.higher_is_better


def test_preset_is_an_option_with_bounds() -> None:
    assert make_codec("av1") == make_codec("av1", preset=4)
    assert len({make_codec("av1", preset=preset).encode(colour(), 40) for preset in (4, 6, 8)}) == 3
    for preset in (-1, 11):
        with pytest.raises(UsageError, match="preset"):
            make_codec("av1", preset=preset)


def test_encoding_is_silent() -> None:
    script = (
        "import numpy as np\nfrom vcframe.registry import Registry\n"
        "Registry.load().codec('av1', preset=10).encode(np.zeros((16, 16, 3), np.uint8), 40)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "SVT_LOG"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == (b"", b"")


# Sizes


def test_the_smallest_pictures_say_how_much_was_added(codec: Codec) -> None:
    for height, width, added in ((1, 1, b"\3\3"), (3, 70, b"\1\0"), (70, 2, b"\0\2")):
        data = codec.encode(np.ascontiguousarray(colour()[:height, :width]), 40)
        assert codec.decode(data).shape == (height, width, 3)
        kinds = [(kind, body) for kind, body in units(data) if kind == METADATA]
        # metadata_type 30 is "unregistered user private"; the last byte is the trailing bits.
        assert kinds == [(METADATA, b"\x1e" + added + b"\x80")]
        assert (frame_of(data).height, frame_of(data).width) == (max(height, 4), max(width, 4))


def test_the_longest_side() -> None:
    codec = make_codec("av1", preset=10)
    longest = codec.traits.max_side
    for shape in ((longest, 4, 3), (4, longest, 3)):
        decoded, _ = codec.roundtrip(np.full(shape, 77, np.uint8), 30)
        assert largest_difference(decoded, np.full(shape, 77, np.uint8)) <= 1


# Payload and damage


def test_the_payload_is_a_private_metadata_unit(codec: Codec) -> None:
    data = codec.encode(colour(), 40)
    for payload in (b"ours", bytes(200)):
        carried = list(units(codec.embed(data, payload)))
        assert carried == [*units(data), (METADATA, b"\x1fvc" + payload + b"\x80")]


def sequence_header(
    width: int, height: int, mono: str = "0", still: str = "11", profile: str = "000"
) -> bytes:
    """A reduced still picture header, 8-bit 4:2:0, written after section 5.5 with 16 bits for each side."""
    bits = profile + still + "01000" + "1111" * 2 + f"{width - 1:016b}{height - 1:016b}" + "0" * 6
    bits += "0" + mono + "0" + "1" + "00" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([SEQUENCE << 3 | 2, len(body)]) + body


def test_probe_reads_a_sequence_header_written_by_the_book(codec: Codec) -> None:
    assert codec.probe(DELIMITER + sequence_header(4096, 2160)) == (2160, 4096, 3)
    assert codec.probe(DELIMITER + sequence_header(1, 8000)) == (8000, 1, 3)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([sequence_header(65_000, 65_000)], "65000x65000 coded pixels"),
        ([sequence_header(64, 64), sequence_header(8000, 8000)], "2 sequence headers"),
        ([], "0 sequence headers"),
        ([sequence_header(64, 64, mono="1")], "8-bit 4:2:0"),
        ([sequence_header(64, 64, still="00")], "only still pictures"),
        ([sequence_header(64, 64, profile="001")], "only still pictures of the main profile"),
        ([bytes([SEQUENCE << 3 | 2, 1, 0b00011000])], "sequence header is damaged"),
        ([sequence_header(64, 64), b"\x2a\5\x1e\x09\0\0\x80"], "does not hold exactly one picture|failed"),
        ([sequence_header(64, 64), b"\x2a\4\x1e\x09\0\x80"], "9 rows hidden"),
    ],
)
def test_other_streams_are_refused_in_one_line(codec: Codec, headers: list[bytes], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        codec.decode(DELIMITER + b"".join(headers))


def test_more_than_one_picture_is_refused(codec: Codec) -> None:
    data = codec.encode(colour(), 40)
    frame = data[data.index(bytes([FRAME << 3 | 2])) :]
    with pytest.raises(CodecError):
        codec.decode(data + frame)


@pytest.mark.skipif(sys.platform != "linux", reason="SVT-AV1 asks for priority on Linux")
def test_no_thread_becomes_the_most_urgent_of_the_machine() -> None:
    """SVT-AV1 leaves real-time priority behind where it may: tell it from a process of its own."""
    code = (
        "import os, numpy\n"
        "from vcframe.registry import Registry\n"
        "Registry.load().codec('av1').encode(numpy.zeros((16, 16, 3), numpy.uint8), 50)\n"
        "assert os.sched_getscheduler(0) == os.SCHED_OTHER\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

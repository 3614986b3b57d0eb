"""H.264 against FFmpeg's decoder, OpenCV's player, Pillow's colour conversion and the syntax of H.264."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from backends import colour, decode_opencv_video, grey, largest_difference, make_codec, psnr

from vcframe import Codec, CodecError, Image

SLICE, SEI, SPS, PPS, CLOSING = 5, 6, 7, 8, 31


@pytest.fixture
def codec() -> Codec:
    return make_codec("h264")


@pytest.fixture
def data(codec: Codec) -> bytes:
    return codec.encode(np.ascontiguousarray(colour()[:96, :144]), 40)


def kinds(data: bytes) -> list[int]:
    """The `nal_unit_type` of every unit (annex B)."""
    return [part[0] & 31 for part in data.split(b"\0\0\1")[1:]]


def frame_of(data: bytes) -> Any:
    context: Any = av.CodecContext.create("h264", "r")
    frames = list(context.decode(av.Packet(data))) + list(context.decode(None))
    assert len(frames) == 1
    return frames[0]


def planes_of(data: bytes) -> list[Image]:
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame_of(data).planes
    ]


def x264_file(image: Image, parameters: str, name: str = "gray") -> bytes:
    """A picture from libx264 with its own defaults."""
    context: Any = av.CodecContext.create("libx264", "w")
    frame = av.VideoFrame.from_ndarray(image, format=name)
    context.width, context.height, context.pix_fmt = frame.width, frame.height, name
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"x264-params": f"log=-1:keyint=1:bframes=0:{parameters}"}
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def ycbcr(image: Image) -> list[Image]:
    """Pillow's conversion, which is JFIF's: full-range BT.601."""
    return [np.asarray(plane) for plane in PIL.Image.fromarray(image).convert("YCbCr").split()]


# What the file holds


def test_a_file_is_parameter_sets_one_slice_and_the_closing_unit(codec: Codec) -> None:
    assert SEI in kinds(x264_file(grey()[:, :144].copy(), "qp=30"))
    for image in (colour(), grey()):
        data = codec.encode(image, 30)
        assert kinds(data) == [SPS, PPS, SLICE, CLOSING]
        assert b"x264" not in data


def test_pictures_are_flagged_as_full_range_bt601() -> None:
    for chroma in ("4:2:0", "4:4:4"):
        frame = frame_of(make_codec("h264", chroma=chroma).encode(colour(), 30))
        # FFmpeg's names: yuvj is full range. Matrix 6 is SMPTE 170M, range 2 is full.
        assert frame.format.name == {"4:2:0": "yuvj420p", "4:4:4": "yuvj444p"}[chroma]
        assert (int(frame.color_range), int(frame.colorspace)) == (2, 6)


def test_planes_hold_bt601_and_averaged_chroma() -> None:
    data = make_codec("h264", chroma="4:4:4").encode(colour(), 1)
    for ours, reference in zip(planes_of(data), ycbcr(colour()), strict=True):
        assert largest_difference(ours, reference) <= 3
    image = np.ascontiguousarray(colour()[:, :144])
    for ours, reference in zip(
        planes_of(make_codec("h264").encode(image, 1))[1:], ycbcr(image)[1:], strict=True
    ):
        means = reference.reshape(48, 2, 72, 2).mean(axis=(1, 3))
        assert np.abs(ours - means).max() <= 3


def test_grey_is_one_plane_in_the_file(codec: Codec) -> None:
    """FFmpeg's decoder shows flat chroma; the parameter set says 4:0:0."""
    shown = planes_of(codec.encode(grey(), 30))
    assert np.unique(np.concatenate([plane.ravel() for plane in shown[1:]])).tolist() in ([], [128])
    assert codec.probe(codec.encode(grey(), 30)) == (96, 145, 1)
    assert len(codec.encode(grey(), 30)) < len(codec.encode(np.stack([grey()] * 3, axis=2), 30))


def test_quality_is_the_qp_of_the_picture_itself() -> None:
    """x264 subtracts 3 from the QP of intra pictures by default; then 51 cannot be reached."""
    codec = make_codec("h264", preset="medium", tune="none")
    image = np.ascontiguousarray(grey()[:, :144])
    assert psnr(image, codec.roundtrip(image, 33)[0]) == pytest.approx(
        psnr(image, planes_of(x264_file(image, "qp=36"))[0]), abs=0.3
    )


def test_the_best_quality_is_still_lossy(codec: Codec) -> None:
    assert not codec.quality_scale.higher_is_better
    assert not np.array_equal(codec.roundtrip(grey(), 1)[0], grey())


def test_options_change_the_bytes_and_have_stated_defaults(codec: Codec) -> None:
    assert codec == make_codec("h264", chroma="4:2:0", preset="slow", tune="psnr")
    others: list[dict[str, str]] = [{"chroma": "4:4:4"}, {"preset": "superfast"}, {"tune": "none"}]
    files = [make_codec("h264", **options).encode(colour(), 30) for options in others]
    assert len({codec.encode(colour(), 30), *files}) == 4


# Sizes


def test_every_small_size_is_cropped_by_any_decoder() -> None:
    codec = make_codec("h264", chroma="4:4:4")
    for side in range(1, 70, 4):
        for image in (grey()[:side, : 70 - side], colour()[: 70 - side, :side]):
            data = codec.encode(image, 40)
            frame = frame_of(data)
            assert (frame.height, frame.width) == image.shape[:2]
            assert codec.probe(data)[:2] == image.shape[:2]


def test_odd_sides_in_420_are_the_closing_unit_s_business(codec: Codec) -> None:
    for height, width in ((1, 1), (2, 3), (3, 2), (3, 3), (33, 40), (40, 33)):
        data = codec.encode(np.ascontiguousarray(colour()[:height, :width]), 40)
        frame = frame_of(data)
        assert (frame.height, frame.width) == (height + height % 2, width + width % 2)
        assert codec.probe(data) == (height, width, 3)
        assert codec.decode(data).shape == (height, width, 3)


def test_the_longest_side(codec: Codec) -> None:
    longest = codec.traits.max_side
    for shape in ((longest, 1), (1, longest)):
        decoded, _ = codec.roundtrip(np.full(shape, 77, np.uint8), 30)
        assert largest_difference(decoded, np.full(shape, 77, np.uint8)) <= 1


def test_opencv_plays_444_as_we_decode_it() -> None:
    codec = make_codec("h264", chroma="4:4:4")
    for size in ((7, 5), (96, 145), (5000, 3)):
        data = codec.encode(np.resize(colour(), (*size, 3)), 32)
        assert largest_difference(decode_opencv_video(data), codec.decode(data)) <= 2


# Damage and limits


def sps(width: int, height: int, crop: tuple[int, int, int, int] | None = None, order_type: int = 2) -> bytes:
    """A sequence parameter set of the High profile, 8-bit 4:2:0, written after clause 7.3.2.1.1."""

    def golomb(value: int) -> str:
        return f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}"

    bits = f"{100:08b}" + "0" * 8 + f"{40:08b}" + golomb(0)
    bits += golomb(1) + golomb(0) * 2 + "00" + golomb(0) + golomb(order_type)
    bits += golomb(1) + "0" + golomb(width // 16 - 1) + golomb(height // 16 - 1) + "1" + "1"
    bits += ("0" if crop is None else "1" + "".join(map(golomb, crop))) + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert b"\0\0" not in body, "would need emulation prevention"
    return b"\0\0\0\1" + bytes([0x67]) + body


def with_sps(data: bytes, *sets: bytes) -> bytes:
    """Replace the parameter set of one of our files, the first unit."""
    return b"".join(sets) + data[data.index(b"\0\0\0\1", 4) :]


def test_probe_reads_a_parameter_set_written_by_the_book(codec: Codec, data: bytes) -> None:
    assert codec.probe(with_sps(data, sps(144, 96))) == (96, 144, 3)
    assert codec.probe(with_sps(data, sps(144, 112, (0, 3, 1, 4)))) == (102, 138, 3)
    assert codec.probe(with_sps(data, sps(4096, 2160))) == (2160, 4096, 3)


def test_huge_pictures_are_refused(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError, match="60000x60000 pixels shown"):
        codec.decode(with_sps(data, sps(60_000, 60_000)))
    with pytest.raises(CodecError, match="2x2 pixels shown of a picture 15998 larger"):
        codec.decode(with_sps(data, sps(16_000, 16_000, (0, 7_999, 0, 7_999))))


def test_other_streams_are_refused_in_one_line(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError, match="2 sequence parameter sets"):
        codec.decode(with_sps(data, sps(144, 96), sps(160, 96)))
    with pytest.raises(CodecError, match="only still pictures"):
        codec.decode(with_sps(data, sps(144, 96, order_type=1)))
    image = np.ascontiguousarray(grey()[:, :144])
    with pytest.raises(CodecError, match="truncated, or was not written by this codec"):
        codec.decode(x264_file(image, "qp=30"))
    closing = data[-5:]
    with pytest.raises(CodecError, match="full range"):
        codec.decode(x264_file(image, "qp=30:fullrange=off") + closing)
    with pytest.raises(CodecError, match="interlaced"):
        codec.decode(x264_file(np.resize(image, (144, 96)), "qp=30:interlaced=1", "yuv420p") + closing)


def test_more_than_one_picture_is_refused(codec: Codec, data: bytes) -> None:
    slice_at = data.index(b"\0\0\1" + bytes([0x65]))
    with pytest.raises(CodecError):
        codec.decode(data[:-5] + data[slice_at:])

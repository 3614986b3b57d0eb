"""HEVC against FFmpeg's decoder, OpenCV's player, Pillow's colour conversion and the syntax of H.265."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from backends import (
    bytes_saved_percent,
    colour,
    decode_ffmpeg,
    decode_opencv_video,
    grey,
    largest_difference,
    make_codec,
    psnr,
)

from vcframe import Codec, CodecError, Image

VPS, SPS, PPS = 32, 33, 34


def units(data: bytes) -> list[tuple[int, bytes]]:
    """`(nal_unit_type, bytes after the start code)`, split as annex B.2 says."""
    parts = data.split(b"\0\0\1")[1:]
    return [(part[0] >> 1 & 63, part.rstrip(b"\0")) for part in parts]


def frame_of(data: bytes) -> Any:
    context: Any = av.CodecContext.create("hevc", "r")
    frames = list(context.decode(av.Packet(data))) + list(context.decode(None))
    assert len(frames) == 1
    return frames[0]


def x265_file(image: Image, parameters: str) -> bytes:
    """A grey picture from libx265 with its own defaults."""
    context: Any = av.CodecContext.create("libx265", "w")
    frame = av.VideoFrame.from_ndarray(image, format="gray")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "gray"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"x265-params": f"log-level=none:info=0:keyint=1:pools=none:{parameters}"}
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def ycbcr(image: Image) -> list[Image]:
    """Pillow's conversion, which is JFIF's: full-range BT.601."""
    return [np.asarray(plane) for plane in PIL.Image.fromarray(image).convert("YCbCr").split()]


# What the file holds


def test_a_file_is_parameter_sets_one_slice_and_the_closing_unit() -> None:
    for image in (colour(), grey()):
        kinds = [kind for kind, _ in units(make_codec("hevc").encode(image, 30))]
        assert kinds[:3] == [VPS, SPS, PPS]
        assert kinds[3] in (19, 20)
        assert kinds[4:] == [56]


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4", None])
def test_pictures_are_flagged_as_full_range_bt601(chroma: str | None) -> None:
    codec = make_codec("hevc", **({"chroma": chroma} if chroma else {}))
    frame = frame_of(codec.encode(colour() if chroma else grey(), 30))
    # FFmpeg's names; it calls full-range 4:2:0 yuvj420p. Matrix 6 is SMPTE 170M, range 2 is full.
    expected = {"4:2:0": "yuvj420p", "4:4:4": "yuv444p", None: "gray"}
    assert (frame.format.name, int(frame.color_range)) == (expected[chroma], 2)
    assert int(frame.colorspace) == 6


def test_planes_hold_bt601_and_averaged_chroma() -> None:
    planes = decode_ffmpeg(make_codec("hevc", chroma="4:4:4").encode(colour(), 0), "hevc")
    for ours, reference in zip(planes, ycbcr(colour()), strict=True):
        assert largest_difference(ours, reference) <= 3
    image = np.ascontiguousarray(colour()[:, :144])
    packed = decode_ffmpeg(make_codec("hevc").encode(image, 0), "hevc")
    halves = packed[96:].reshape(2, 48, 72)
    for ours, reference in zip(halves, ycbcr(image)[1:], strict=True):
        means = reference.reshape(48, 2, 72, 2).mean(axis=(1, 3))
        assert np.abs(ours - means).max() <= 3


def test_quality_is_the_qp_of_the_picture_itself() -> None:
    """x265 subtracts 3 from the QP of intra pictures by default; then 51 cannot be reached."""
    codec = make_codec("hevc", preset="medium", tune="none")
    assert len(codec.encode(grey(), 51)) < len(x265_file(grey(), "qp=51"))
    assert psnr(grey(), codec.roundtrip(grey(), 33)[0]) == pytest.approx(
        psnr(grey(), decode_ffmpeg(x265_file(grey(), "qp=36:bframes=0"), "hevc")), abs=0.3
    )


def test_lower_numbers_are_better() -> None:
    scale = make_codec("hevc").quality_scale
    assert not scale.higher_is_better
    assert (scale.unit(51), scale.unit(0)) == (0, 1)


def test_options_change_the_bytes_and_have_stated_defaults() -> None:
    plain = make_codec("hevc")
    assert plain == make_codec("hevc", chroma="4:2:0", preset="slow", tune="psnr")
    assert plain == make_codec("hevc", chroma_qp="standard")
    assert plain == make_codec("hevc", depth=8, sao=True, strong_intra_smoothing=True)
    others: list[dict[str, Any]] = [
        {"chroma": "4:4:4"},
        {"preset": "ultrafast"},
        {"tune": "none"},
        {"chroma_qp": "rgb"},
        {"depth": 10},
        {"sao": False},
        {"strong_intra_smoothing": False},
    ]
    files = [make_codec("hevc", **options).encode(colour(), 30) for options in others]
    assert len({plain.encode(colour(), 30), *files}) == 8


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4", None])
def test_ten_bits_are_main_10_and_any_player_shows_them(chroma: str | None) -> None:
    codec = make_codec("hevc", depth=10, **({"chroma": chroma} if chroma else {}))
    image = np.ascontiguousarray((colour() if chroma else grey())[:75, :91])
    data = codec.encode(image, 24)
    expected = {"4:2:0": "yuv420p10le", "4:4:4": "yuv444p10le", None: "gray10le"}
    frame = frame_of(data)
    assert (frame.format.name, int(frame.color_range), int(frame.colorspace)) == (expected[chroma], 2, 6)
    decoded = codec.decode(data)
    assert decoded.shape == image.shape
    shown = decode_opencv_video(data)[: image.shape[0], : image.shape[1]]
    assert psnr(shown if chroma else shown[:, :, 0], decoded) > 40


def test_ten_bits_cost_fewer_bytes_at_equal_error() -> None:
    qualities = (40, 34, 28, 22)
    assert bytes_saved_percent(make_codec("hevc", depth=10), make_codec("hevc"), qualities) > 0.3


def test_the_unaided_codec_has_sao() -> None:
    codec = make_codec("hevc", sao=False, depth=10)
    assert codec.unaided() == make_codec("hevc", depth=10)
    assert codec.encode(colour(), 40) != codec.unaided().encode(colour(), 40)


def test_chroma_for_rgb_costs_fewer_bytes_at_equal_error_and_moves_only_chroma() -> None:
    plain, rgb = make_codec("hevc"), make_codec("hevc", chroma_qp="rgb")
    assert bytes_saved_percent(rgb, plain, (40, 34, 28, 22)) > 3
    planes = [ycbcr(codec.decode(codec.encode(colour(), 24))) for codec in (plain, rgb)]
    gains = [psnr(o, new) - psnr(o, old) for o, old, new in zip(ycbcr(colour()), *planes, strict=True)]
    assert abs(gains[0]) < 0.3
    assert min(gains[1:]) > 0.5


def test_chroma_for_rgb_is_a_matter_of_4_2_0() -> None:
    for image, options in ((grey(), {}), (colour(), {"chroma": "4:4:4"})):
        files = [make_codec("hevc", chroma_qp=c, **options).encode(image, 26) for c in ("standard", "rgb")]
        assert files[0] == files[1]


# Sizes


def test_every_small_size_is_cropped_by_any_decoder() -> None:
    codec = make_codec("hevc", chroma="4:4:4")
    for side in range(1, 70, 4):
        for image in (grey()[:side, : 70 - side], colour()[: 70 - side, :side]):
            data = codec.encode(image, 40)
            frame = frame_of(data)
            assert (frame.height, frame.width) == image.shape[:2]
            assert codec.probe(data)[:2] == image.shape[:2]


def test_odd_sides_in_420_are_the_closing_unit_s_business() -> None:
    codec = make_codec("hevc")
    for height, width in ((2, 2), (2, 3), (3, 2), (3, 3), (33, 40), (40, 33)):
        data = codec.encode(np.ascontiguousarray(colour()[:height, :width]), 40)
        frame = frame_of(data)
        assert (frame.height, frame.width) == (height + height % 2, width + width % 2)
        assert codec.probe(data) == (height, width, 3)
        assert codec.decode(data).shape == (height, width, 3)


def test_padding_repeats_the_edge_so_it_costs_little() -> None:
    codec = make_codec("hevc")
    whole, cut = (len(codec.encode(np.ascontiguousarray(grey()[:, :width]), 30)) for width in (72, 65))
    assert cut < whole


def test_the_longest_side() -> None:
    codec = make_codec("hevc")
    longest = codec.traits.max_side
    for shape in ((longest, 1), (1, longest)):
        decoded, _ = codec.roundtrip(np.full(shape, 77, np.uint8), 30)
        assert largest_difference(decoded, np.full(shape, 77, np.uint8)) <= 1
    with pytest.raises(CodecError, match=f"1..{longest} pixels"):
        codec.encode(np.zeros((1, longest + 1), np.uint8), 30)


# Players


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 31), (96, 145), (5000, 3), (3, 5000)], ids=str)
def test_opencv_plays_444_as_we_decode_it(size: tuple[int, int]) -> None:
    codec = make_codec("hevc", chroma="4:4:4")
    data = codec.encode(np.resize(colour(), (*size, 3)), 32)
    assert largest_difference(decode_opencv_video(data), codec.decode(data)) <= 2


def test_opencv_plays_420_nearly_as_we_decode_it() -> None:
    codec = make_codec("hevc")
    data = codec.encode(np.ascontiguousarray(colour()[:, :144]), 32)
    assert psnr(decode_opencv_video(data), codec.decode(data)) > 36


# Damage and limits


def sps(width: int, height: int, window: tuple[int, int, int, int] | None = None) -> bytes:
    """A sequence parameter set of an 8-bit 4:2:0 picture, written after clause 7.3.2.2."""

    def golomb(value: int) -> str:
        return f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}"

    bits = "0000" + "000" + "1" + "0" * 88 + f"{120:08b}"
    bits += golomb(0) + golomb(1) + golomb(width) + golomb(height)
    bits += "0" if window is None else "1" + "".join(map(golomb, window))
    bits += golomb(0) * 2 + golomb(4) + "1" * 40
    body = bytearray()
    for byte in (int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8)):
        if byte <= 3 and body[-2:] == b"\0\0":
            body.append(3)
        body.append(byte)
    return b"\0\0\0\1" + bytes([SPS << 1, 1]) + bytes(body)


def with_sps(data: bytes, *sets: bytes) -> bytes:
    """Replace the parameter set of one of our files."""
    start = data.index(b"\0\0\0\1" + bytes([SPS << 1, 1]))
    return data[:start] + b"".join(sets) + data[data.index(b"\0\0\0\1", start + 4) :]


@pytest.fixture
def codec() -> Codec:
    return make_codec("hevc")


@pytest.fixture
def data(codec: Codec) -> bytes:
    return codec.encode(np.ascontiguousarray(colour()[:96, :144]), 40)


def test_probe_reads_a_parameter_set_written_by_the_book(codec: Codec, data: bytes) -> None:
    assert codec.probe(with_sps(data, sps(144, 96))) == (96, 144, 3)
    assert codec.probe(with_sps(data, sps(144, 104, (0, 3, 0, 4)))) == (96, 138, 3)
    assert codec.probe(with_sps(data, sps(4096, 2160))) == (2160, 4096, 3)


@pytest.mark.parametrize("window", [None, (0, 29_999, 0, 29_999)], ids=["plain", "behind a window of 2x2"])
def test_huge_pictures_are_refused(
    codec: Codec, data: bytes, window: tuple[int, int, int, int] | None
) -> None:
    with pytest.raises(CodecError, match="60000x60000 coded pixels"):
        codec.decode(with_sps(data, sps(60_000, 60_000, window)))


def test_a_second_parameter_set_does_not_undo_the_limit(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError, match="2 sequence parameter sets"):
        codec.decode(with_sps(data, sps(144, 96), sps(16_000, 16_000)))


def test_more_than_one_picture_is_refused(codec: Codec, data: bytes) -> None:
    slice_at = data.index(b"\0\0\1", data.index(bytes([0, 0, 1, PPS << 1])) + 3)
    with pytest.raises(CodecError):
        codec.decode(data[:-6] + data[slice_at:])


def test_files_of_other_encoders_are_refused_in_one_line(codec: Codec) -> None:
    with pytest.raises(CodecError, match="truncated, or was not written by this codec"):
        codec.decode(x265_file(grey(), "qp=30"))


def test_limited_range_is_refused_rather_than_shown_wrong(codec: Codec) -> None:
    closing = codec.encode(grey(), 30)[-6:]
    with pytest.raises(CodecError, match="full range"):
        codec.decode(x265_file(np.ascontiguousarray(grey()[:, :144]), "qp=30:range=limited") + closing)

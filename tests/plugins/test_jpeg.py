"""JPEG against Pillow's own files, imagecodecs and FFmpeg as decoders, and a published table."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import scipy.fft
from backends import colour, decode_ffmpeg, grey, largest_difference, make_codec, photo, photographs, psnr

from vcframe import CodecError, Image, UsageError

QUALITIES = [1, 2, 5, 10, 30, 49, 50, 51, 75, 95]

# Jiang et al. (arXiv 1708.00838), table II: full-range grey PSNR in dB of plain JPEG.
PUBLISHED = {
    "butterfly": (22.58, 25.24),
    "cameraman": (24.45, 26.47),
    "house": (27.77, 30.56),
    "lena": (27.33, 30.41),
    "peppers": (27.17, 30.14),
    "leaves": (22.49, 25.39),
    "parrots": (26.19, 28.96),
}


def pillow_file(image: Image, quality: int, **settings: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "JPEG", quality=quality, **settings)
    return out.getvalue()


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_files_are_those_of_pillow_with_optimised_tables(quality: int, subsampling: str) -> None:
    for progressive, word in ((False, "never"), (True, "always")):
        codec = make_codec("jpeg", progressive=word, subsampling=subsampling)
        for image in photographs(codec):
            settings = {"optimize": True, "progressive": progressive, "subsampling": subsampling}
            assert codec.encode(image, quality) == pillow_file(image, quality, **settings)


@pytest.mark.parametrize("quality", QUALITIES)
def test_auto_is_the_smaller_way_and_never_larger_than_default_tables(quality: int) -> None:
    auto = make_codec("jpeg")
    ways = [make_codec("jpeg", progressive=word) for word in ("never", "always")]
    for image in photographs(auto):
        size = len(auto.encode(image, quality))
        assert size == min(len(way.encode(image, quality)) for way in ways)
        assert size < len(pillow_file(image, quality))


def test_progressive_wins_at_high_quality_only() -> None:
    image = photo("coffee")
    assert b"\xff\xc0" in make_codec("jpeg").encode(image, 5)
    assert b"\xff\xc2" in make_codec("jpeg").encode(image, 95)


@pytest.mark.parametrize("progressive", ["never", "always"])
@pytest.mark.parametrize("quality", [1, 40, 95])
def test_imagecodecs_and_ffmpeg_see_the_same_picture(progressive: str, quality: int) -> None:
    codec = make_codec("jpeg", progressive=progressive, subsampling="4:4:4")
    data = codec.encode(colour(), quality)
    assert np.array_equal(imagecodecs.jpeg8_decode(data), codec.decode(data))
    data = codec.encode(grey(), quality)
    assert np.array_equal(imagecodecs.jpeg8_decode(data), codec.decode(data))
    # Another implementation of the inverse DCT may round the other way.
    assert largest_difference(decode_ffmpeg(data, "mjpeg"), codec.decode(data)) <= 1


def test_published_psnr_of_the_seven_grey_pictures(shared: Path) -> None:
    codec = make_codec("jpeg")
    measured = []
    for name, published in PUBLISHED.items():
        image = np.asarray(PIL.Image.open(shared / "data" / "set7" / f"{name}.png").convert("L"))
        decibels = [psnr(image, codec.roundtrip(image, quality)[0]) for quality in (5, 10)]
        assert decibels == pytest.approx(published, abs=0.0101)
        measured.append(decibels)
    assert np.mean(measured, axis=0) == pytest.approx((25.43, 28.17), abs=0.0101)


# Quantisation tables


def tables(flat: float, quality: int) -> dict[int, list[int]]:
    data = make_codec("jpeg", flat=flat).encode(colour(), quality)
    file: Any = PIL.Image.open(io.BytesIO(data))
    return {key: list(table) for key, table in file.quantization.items()}


@pytest.mark.parametrize("flat", [0.0, 0.3, 1.0])
def test_tables_fall_as_quality_rises(flat: float) -> None:
    previous = tables(flat, 1)
    for quality in range(2, 96):
        current = tables(flat, quality)
        for key, table in current.items():
            assert all(low <= high for low, high in zip(table, previous[key], strict=True))
        previous = current
    assert max(previous[0]) < 15


def test_flat_is_a_geometric_blend_towards_one_step() -> None:
    standard, half, level = (tables(flat, 50) for flat in (0.0, 0.5, 1.0))
    for key, step in ((0, 34), (1, 13)):
        assert set(level[key]) == {step}
        middle = np.sqrt(np.array(standard[key]) * step)
        assert np.abs(half[key] - middle).max() <= 0.5


def test_flatter_tables_need_fewer_bytes_at_the_same_psnr() -> None:
    assert rate_change({"flat": 0.75}, against={}) < -0.08


def rate_change(options: dict[str, Any], against: dict[str, Any]) -> float:
    """Mean change of log bytes at equal PSNR, on one photograph."""
    image = photo("coffee")
    curves = []
    for chosen in (against, options):
        codec = make_codec("jpeg", **chosen)
        files = [codec.encode(image, quality) for quality in (5, 8, 12, 20, 30)]
        curves.append([[psnr(image, codec.decode(data)), np.log(len(data))] for data in files])
    (old_db, old_rate), (new_db, new_rate) = np.array(curves).transpose(0, 2, 1)
    common = np.linspace(max(old_db[0], new_db[0]), min(old_db[-1], new_db[-1]))
    assert len(set(common)) > 1
    return float((np.interp(common, new_db, new_rate) - np.interp(common, old_db, old_rate)).mean())


def test_a_dead_zone_needs_fewer_bytes_at_the_same_psnr() -> None:
    assert rate_change({"flat": 0.75, "dead_zone": 0.7}, against={"flat": 0.75}) < -0.05


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [5, 20, 50])
def test_the_file_holds_the_coefficients_that_the_dead_zone_leaves(quality: int, subsampling: str) -> None:
    # scipy's transform of Pillow's luma, before coding and after decoding.
    image, dead_zone = photo("astronaut")[:256, :256], 0.7
    data = make_codec("jpeg", dead_zone=dead_zone, subsampling=subsampling).encode(image, quality)
    file = PIL.Image.open(io.BytesIO(data))
    table = np.array(file.quantization[0], float).reshape(8, 8)
    before = luma_coefficients(PIL.Image.fromarray(image).convert("YCbCr")) / table
    file.draft("YCbCr", None)
    after = luma_coefficients(file) / table
    ac = np.ones((8, 8), bool)
    ac[0, 0] = False
    size = np.abs(before)[..., ac]
    kept = np.abs(after)[..., ac] > 0.5
    # Coefficients close to the threshold may fall on either side.
    assert kept[size > dead_zone + 0.1].mean() > 0.99
    assert kept[size < dead_zone - 0.1].mean() < 0.01
    assert np.abs(size - dead_zone).min() < 0.01


def luma_coefficients(picture: PIL.Image.Image) -> np.ndarray[Any, Any]:
    luma = np.asarray(picture)[..., 0].astype(float) - 128
    height, width = luma.shape
    blocks = luma.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return np.asarray(scipy.fft.dctn(blocks, axes=(2, 3), norm="ortho"))


def test_a_dead_zone_of_a_half_is_libjpeg_s_own_rounding() -> None:
    image = photo("astronaut")
    assert make_codec("jpeg", dead_zone=0.5).encode(image, 30) == make_codec("jpeg").encode(image, 30)


@pytest.mark.parametrize("shape", [(1, 1), (33, 31), (1, 1, 3), (7, 5, 3), (5, 3000, 3)])
def test_a_dead_zone_takes_every_size(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 200, np.uint8)
    image[::2] = 40
    codec = make_codec("jpeg", flat=0.75, dead_zone=0.7)
    decoded, _ = codec.roundtrip(image, 90)
    assert psnr(image, decoded) > 25


@pytest.mark.parametrize("dead_zone", [0.4, 1.1, float("nan")])
def test_a_dead_zone_outside_a_half_to_1_is_refused(dead_zone: float) -> None:
    with pytest.raises(UsageError, match="dead_zone"):
        make_codec("jpeg", dead_zone=dead_zone)


@pytest.mark.parametrize("flat", [-0.1, 1.5, float("nan")])
def test_flat_outside_0_to_1_is_refused(flat: float) -> None:
    with pytest.raises(UsageError, match="flat"):
        make_codec("jpeg", flat=flat)


# Files


def test_a_header_of_60000_x_60000_is_refused() -> None:
    data = bytearray(make_codec("jpeg").encode(colour(), 50))
    at = data.find(b"\xff\xc0" if b"\xff\xc0" in data else b"\xff\xc2") + 5
    struct.pack_into(">HH", data, at, 60000, 60000)
    with pytest.raises(CodecError, match="header claims 60000x60000"):
        make_codec("jpeg").decode(bytes(data))


def test_a_second_frame_header_does_not_undo_the_limit() -> None:
    codec = make_codec("jpeg", progressive="never")
    data = codec.encode(colour(), 50)
    at = data.find(b"\xff\xc0")
    length = 2 + struct.unpack_from(">H", data, at + 2)[0]
    small = bytearray(data[at : at + length])
    struct.pack_into(">HH", small, 5, 8, 8)
    with pytest.raises(CodecError):
        codec.decode(data[:at] + bytes(small) + data[at:])


def test_foreign_comments_are_left_alone() -> None:
    codec = make_codec("jpeg")
    foreign = pillow_file(colour(), 50, comment=b"a holiday")
    assert codec.extract(foreign) is None
    # Right after SOI, where ours would be.
    foreign = foreign[:2] + b"\xff\xfe\x00\x07hello" + foreign[2:]
    assert codec.extract(foreign) is None
    assert codec.extract(codec.embed(foreign, b"ours")) == (foreign, b"ours")


def test_other_people_s_files_decode_as_pillow_shows_them() -> None:
    for mode in ("RGB", "L", "CMYK"):
        out = io.BytesIO()
        PIL.Image.fromarray(colour()).convert(mode).save(out, "JPEG", comment=b"hello")
        shown = PIL.Image.open(out).convert("L" if mode == "L" else "RGB")
        assert np.array_equal(make_codec("jpeg").decode(out.getvalue()), np.asarray(shown))


def test_a_payload_too_long_for_a_segment_is_refused() -> None:
    with pytest.raises(CodecError, match="65532 bytes"):
        make_codec("jpeg").embed(make_codec("jpeg").encode(colour(), 50), bytes(65532))

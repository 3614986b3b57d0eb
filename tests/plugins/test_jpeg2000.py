"""JPEG 2000 against FFmpeg's own decoder, and the marker segments of ISO/IEC 15444-1."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from backends import colour, decode_ffmpeg, grey, largest_difference, make_codec, photo, photographs, psnr

from vcframe import CodecError, UsageError


def markers(data: bytes) -> dict[int, bytes]:
    """Main-header marker segments by code, read after annex A of the standard."""
    found = {}
    at = 2
    while (code := struct.unpack_from(">H", data, at)[0]) != 0xFF90:
        length = struct.unpack_from(">H", data, at + 2)[0]
        found[code] = data[at + 4 : at + 2 + length]
        at += 2 + length
    return found


@pytest.mark.parametrize("quality", [18, 30, 45])
def test_ffmpeg_decodes_the_same_picture(quality: float) -> None:
    codec = make_codec("jpeg2000")
    for image in photographs(codec):
        data = codec.encode(image, quality)
        # Another implementation of the 9/7 wavelet may round the other way.
        assert largest_difference(decode_ffmpeg(data, "jpeg2000"), codec.decode(data)) <= 1


@pytest.mark.parametrize("quality", [25, 30, 35, 40])
def test_quality_is_the_psnr_that_is_reached(quality: float) -> None:
    codec = make_codec("jpeg2000")
    for picture in (photo("coffee"), photo("astronaut"), photo("camera")):
        image = np.ascontiguousarray(picture[::2, ::2])
        decoded, _ = codec.roundtrip(image, quality)
        assert abs(psnr(image, decoded) - quality) < 0.6


def test_the_scale_reaches_very_low_rates() -> None:
    image = photo("coffee")
    codec = make_codec("jpeg2000")
    size = len(codec.encode(image, codec.quality_scale.minimum))
    assert 8 * size / (image.shape[0] * image.shape[1]) < 0.03


def test_a_tenth_of_a_decibel_is_a_step() -> None:
    image = np.ascontiguousarray(photo("coffee")[:256, :256])
    codec = make_codec("jpeg2000")
    assert len(codec.encode(image, 30.0)) < len(codec.encode(image, 30.1)) < len(codec.encode(image, 30.2))


def test_coding_style_is_irreversible_with_the_colour_transform() -> None:
    """COD (table A.12): byte 4 is the multiple component transform, byte 9 the wavelet, 0 for the 9/7."""
    codec = make_codec("jpeg2000")
    for image, transform in ((colour(), 1), (grey(), 0)):
        style = markers(codec.encode(image, 30))[0xFF52]
        assert style[4] == transform
        assert style[9] == 0


@pytest.mark.parametrize(
    ("resolutions", "side", "levels"), [(6, 64, 3), (6, 96, 3), (3, 96, 2), (1, 96, 0), (6, 1, 0), (6, 17, 1)]
)
def test_resolutions_are_explicit_and_fit_the_picture(resolutions: int, side: int, levels: int) -> None:
    codec = make_codec("jpeg2000", resolutions=resolutions)
    data = codec.encode(np.ascontiguousarray(colour()[:side]), 30)
    assert markers(data)[0xFF52][5] == levels


def test_openjpeg_s_comment_is_cut_and_nothing_else() -> None:
    codec = make_codec("jpeg2000")
    whole = imagecodecs.jpeg2k_encode(
        colour(), level=30, codecformat="j2k", reversible=False, mct=True, resolutions=6, numthreads=1
    )
    ours = codec.encode(colour(), 30)
    assert b"OpenJPEG" in whole
    assert 0xFF64 not in markers(ours)
    assert len(whole) - len(ours) == 39
    assert np.array_equal(imagecodecs.jpeg2k_decode(whole), codec.decode(ours))


def test_a_header_of_60000_x_60000_is_refused() -> None:
    data = bytearray(make_codec("jpeg2000").encode(colour(), 30))
    struct.pack_into(">2I", data, 8, 60000, 60000)
    struct.pack_into(">2I", data, 24, 60000, 60000)
    with pytest.raises(CodecError, match="header claims 60000x60000"):
        make_codec("jpeg2000").decode(bytes(data))


def test_more_tiles_than_the_file_can_hold_are_refused() -> None:
    """OpenJPEG took 40 seconds and 4 GB over 17000 absent tiles."""
    data = bytearray(make_codec("jpeg2000").encode(colour(), 30))
    struct.pack_into(">I", data, 8, 2_228_354)
    with pytest.raises(CodecError, match="tiles"):
        make_codec("jpeg2000").decode(bytes(data))


def test_foreign_comments_are_left_alone() -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(colour()).save(out, "JPEG2000", no_jp2=True, comment="a holiday")
    foreign = out.getvalue()
    codec = make_codec("jpeg2000")
    assert codec.extract(foreign) is None
    assert codec.extract(codec.embed(foreign, b"ours")) == (foreign, b"ours")


def test_other_kinds_of_codestream_are_refused() -> None:
    deep = imagecodecs.jpeg2k_encode(grey().astype(np.uint16) * 257, level=40, codecformat="j2k")
    boxed = imagecodecs.jpeg2k_encode(grey(), level=40, codecformat="jp2")
    for data in (deep, boxed):
        with pytest.raises(CodecError, match=r"8-bit|codestream"):
            make_codec("jpeg2000").decode(bytes(data))


@pytest.mark.parametrize("resolutions", [0, 34])
def test_impossible_resolutions_are_refused(resolutions: int) -> None:
    with pytest.raises(UsageError, match="resolutions"):
        make_codec("jpeg2000", resolutions=resolutions)


def test_a_payload_too_long_for_a_segment_is_refused() -> None:
    codec = make_codec("jpeg2000")
    with pytest.raises(CodecError, match="65530 bytes"):
        codec.embed(codec.encode(grey(), 30), bytes(65530))

"""HEIC: what the boxes say (ISO/IEC 14496-12 and 23008-12), and FFmpeg's decoder beside libde265."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from backends import colour, grey, make_codec, psnr, skip_without

from vcframe import Codec, CodecError, Image

pytestmark = skip_without("heic")


@pytest.fixture
def codec() -> Codec:
    return make_codec("heic", preset="faster")


def property_of(data: bytes, kind: bytes) -> bytes:
    """The body of an item property; there must be only one of its kind."""
    assert data.count(kind) == 1
    at = data.index(kind)
    return data[at + 4 : at - 4 + struct.unpack_from(">I", data, at - 4)[0]]


def ffmpeg_luma(data: bytes) -> Image:
    """FFmpeg's demuxer for HEIF and its own HEVC decoder; the first plane, uncropped."""
    frames: Any = list(av.open(io.BytesIO(data)).decode(video=0))
    assert len(frames) == 1
    plane = frames[0].planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


@pytest.mark.parametrize(("chroma", "format_idc"), [("4:2:0", 1), ("4:4:4", 3), (None, 0)])
def test_pictures_are_flagged_as_full_range_bt601(chroma: str | None, format_idc: int) -> None:
    codec = make_codec("heic", **({"chroma": chroma} if chroma else {}))
    data = codec.encode(colour() if chroma else grey(), 40)
    # 4:0:0 and 4:4:4 are beyond the Main profile, so the brand is another (23008-12, annex B.4.1).
    assert data[4:12] == (b"ftypheic" if chroma == "4:2:0" else b"ftypheix")
    # Matrix 6 is BT.601 and the top bit of the last byte says full range (14496-12, clause 12.1.5).
    assert struct.unpack(">4sHHHB", property_of(data, b"colr"))[3:] == (6, 0x80)
    # The low bits of byte 16 of the decoder configuration: chroma_format_idc (14496-15, clause 8.3.2.1).
    assert property_of(data, b"hvcC")[16] & 3 == format_idc


def test_ffmpeg_decodes_the_same_luma(codec: Codec) -> None:
    image = np.ascontiguousarray(grey()[:, :144])
    data = codec.encode(image, 40)
    assert np.array_equal(ffmpeg_luma(data)[:96, :144], codec.decode(data))
    # In colour by the weights of BT.601, up to the rounding of the way back from RGB.
    data = codec.encode(np.ascontiguousarray(colour()[:, :144]), 40)
    shown = np.asarray(PIL.Image.fromarray(codec.decode(data)).convert("L"), np.float64)
    assert np.abs(ffmpeg_luma(data)[:96, :144] - shown).mean() < 1


def test_ffmpeg_does_not_see_a_payload(codec: Codec) -> None:
    data = codec.encode(grey(), 40)
    carrying = codec.embed(data, bytes(range(13)))
    assert carrying == data + struct.pack(">I4s", 21, b"vcfr") + bytes(range(13))
    assert np.array_equal(ffmpeg_luma(carrying), ffmpeg_luma(data))


def test_odd_qualities_of_libheif_are_left_out(codec: Codec) -> None:
    qualities = codec.quality_scale.steps()[10:20]
    assert len({len(codec.encode(colour(), quality)) for quality in qualities}) == len(qualities)


def test_grey_is_one_lossy_plane(codec: Codec) -> None:
    decoded = codec.decode(codec.encode(grey(), 40))
    assert decoded.ndim == 2
    assert 25 < psnr(grey(), decoded) < 45


def test_options_change_the_bytes_and_have_stated_defaults() -> None:
    assert make_codec("heic") == make_codec("heic", preset="slow", tune="psnr", chroma="4:2:0")
    others: list[dict[str, Any]] = [{"preset": "ultrafast"}, {"chroma": "4:4:4"}, {"tune": "ssim"}, {}]
    assert len({make_codec("heic", **options).encode(colour(), 30) for options in others}) == 4


def test_alpha_is_dropped(codec: Codec) -> None:
    import pillow_heif

    picture = PIL.Image.fromarray(colour())
    picture.putalpha(PIL.Image.fromarray(grey()))
    out = io.BytesIO()
    pillow_heif.from_pillow(picture).save(out, quality=50)
    assert codec.probe(out.getvalue()) == (96, 145, 3)
    assert psnr(codec.decode(out.getvalue()), colour()) > 25


def test_narrow_pictures_may_be_long(codec: Codec) -> None:
    # No level of HEVC has room for these: x265 refuses them unless told otherwise.
    assert codec.roundtrip(np.full((3, 5000), 77, np.uint8), 30)[0].shape == (3, 5000)


def test_avif_in_the_same_boxes_is_refused(codec: Codec) -> None:
    with pytest.raises(CodecError, match="not a HEIC file"):
        codec.decode(make_codec("avif", speed=10).encode(colour(), 30))

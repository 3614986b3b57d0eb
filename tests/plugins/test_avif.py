"""AVIF: what the boxes say (ISO/IEC 14496-12 and 23008-12, AV1-ISOBMFF), with Pillow's own writing beside."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import PIL
import PIL.AvifImagePlugin
import PIL.Image
import pytest
from backends import colour, decode_opencv, grey, make_codec, photo, psnr

from vcframe import CodecError, Image, UsageError


def pillow_file(image: Image, **settings: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "AVIF", **settings)
    return out.getvalue()


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of the top level; their lengths must add up."""
    found = []
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + length]))
        at += length
    assert at == len(data)
    return found


def property_of(data: bytes, kind: bytes) -> bytes:
    """The body of an item property; there must be only one of its kind."""
    assert data.count(kind) == 1
    at = data.index(kind)
    return data[at + 4 : at - 4 + struct.unpack_from(">I", data, at - 4)[0]]


@pytest.mark.parametrize(("chroma", "subsampling"), [("4:2:0", 0b1100), ("4:4:4", 0), (None, 0b11100)])
def test_pictures_are_flagged_as_full_range_bt601(chroma: str | None, subsampling: int) -> None:
    codec = make_codec("avif", speed=10, **({"chroma": chroma} if chroma else {}))
    data = codec.encode(colour() if chroma else grey(), 40)
    assert [kind for kind, _ in boxes(data)] == [b"ftyp", b"meta", b"mdat"]
    assert struct.unpack(">4xII", property_of(data, b"ispe")) == (145, 96)
    # Matrix 6 is BT.601 and the top bit of the last byte says full range (14496-12, clause 12.1.5).
    assert struct.unpack(">4sHHHB", property_of(data, b"colr"))[3:] == (6, 0x80)
    # Bits 4 to 2 of the third byte: monochrome and the two subsampling flags (AV1-ISOBMFF, 2.3.3).
    assert property_of(data, b"av1C")[2] & 0b11100 == subsampling


def test_grey_is_one_lossy_plane() -> None:
    data = make_codec("avif").encode(grey(), 40)
    shown = decode_opencv(data)
    assert shown.ndim == 2
    assert 25 < psnr(grey(), shown) < 45
    assert len(data) < len(make_codec("avif").encode(np.stack([grey()] * 3, axis=2), 40))


def test_the_best_quality_is_still_lossy() -> None:
    codec = make_codec("avif", speed=10)
    assert not np.array_equal(codec.roundtrip(grey(), codec.quality_scale.maximum)[0], grey())


def test_the_number_of_threads_does_not_reach_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = make_codec("avif", speed=10)
    image = np.ascontiguousarray(photo("coffee"))
    alone = codec.encode(image, 30)
    monkeypatch.setattr(PIL.AvifImagePlugin, "DEFAULT_MAX_THREADS", 4)
    monkeypatch.setattr(PIL.AvifImagePlugin, "_get_default_max_threads", lambda: 4)
    assert codec.encode(image, 30) == alone


def test_tuning_for_psnr_goes_lower_than_libavif_s_own_choice() -> None:
    ours = make_codec("avif", speed=8).encode(colour(), 0)
    assert len(ours) < len(pillow_file(colour(), quality=0, speed=8, max_threads=1))


def test_options_change_the_bytes_and_have_stated_defaults() -> None:
    plain = make_codec("avif")
    assert plain == make_codec("avif", speed=6, chroma="4:2:0", tune="psnr")
    others: list[dict[str, Any]] = [{"speed": 10}, {"chroma": "4:4:4"}, {"tune": "ssim"}, {"tune": "iq"}]
    files = [make_codec("avif", **options).encode(colour(), 30) for options in others]
    assert len({plain.encode(colour(), 30), *files}) == 5
    for speed in (-1, 11):
        with pytest.raises(UsageError, match="speed"):
            make_codec("avif", speed=speed)


def test_the_payload_is_a_box_of_its_own() -> None:
    codec = make_codec("avif", speed=10)
    data = codec.encode(colour(), 30)
    assert boxes(codec.embed(data, b"ours")) == [*boxes(data), (b"vcfr", b"ours")]


def test_foreign_boxes_are_left_alone() -> None:
    codec = make_codec("avif", speed=10)
    # A box may state its length in 64 bits (14496-12, clause 4.2).
    long_box = struct.pack(">I4sQ", 1, b"free", 20) + b"rest"
    foreign = codec.encode(colour(), 30) + long_box
    assert codec.extract(foreign) is None
    assert codec.extract(codec.embed(foreign, b"ours")) == (foreign, b"ours")
    # One of length 0 reaches to the end of the file, whatever follows.
    with pytest.raises(CodecError, match="do not end where the file ends"):
        codec.embed(foreign + struct.pack(">I4s", 0, b"free"), b"ours")


def test_other_kinds_of_avif() -> None:
    codec = make_codec("avif")
    picture = PIL.Image.fromarray(colour())
    picture.putalpha(PIL.Image.fromarray(grey()))
    data = pillow_file(np.asarray(picture), speed=10)
    assert codec.probe(data) == (96, 145, 3)
    assert np.array_equal(codec.decode(data), np.asarray(PIL.Image.open(io.BytesIO(data)))[..., :3])
    frames = pillow_file(
        colour(), speed=10, save_all=True, append_images=[PIL.Image.fromarray(colour()[::-1])]
    )
    with pytest.raises(CodecError, match="animation"):
        codec.decode(frames)


def test_the_longest_side() -> None:
    codec = make_codec("avif", speed=10)
    longest = codec.traits.max_side
    for shape in ((longest, 1), (1, longest)):
        assert codec.roundtrip(np.full(shape, 77, np.uint8), 30)[0].shape == shape


def test_a_pillow_that_cannot_read_grey_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = make_codec("avif")
    monkeypatch.setattr(PIL, "__version__", "11.3.0")
    assert "Pillow 11.3.0 cannot open grey" in str(codec.unavailable())
    monkeypatch.setattr(PIL.AvifImagePlugin, "SUPPORTED", False)
    assert "without AVIF" in str(codec.unavailable())

"""WebP: lossy whatever the quality, the container of RFC 9649, and Pillow's encoder as the reference."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import PIL.Image
import pytest
from backends import bytes_saved_percent, colour, grey, make_codec, psnr

from vcframe import CodecError, Image, UsageError


def pillow_file(image: Image, **settings: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "WEBP", **settings)
    return out.getvalue()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The RIFF chunks (RFC 9649, section 2.3); the sizes must add up."""
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WEBP"
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    found = []
    at = 12
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    assert at == len(data)
    return found


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_files_are_lossy(quality: int) -> None:
    codec = make_codec("webp")
    data = codec.encode(colour(), quality)
    assert [name for name, _ in chunks(data)] == [b"VP8 "]
    assert not np.array_equal(codec.decode(data), colour())
    assert len(data) < 0.7 * len(pillow_file(colour(), lossless=True))


@pytest.mark.parametrize("method", [0, 4, 6])
@pytest.mark.parametrize("quality", [0, 40, 100])
def test_files_are_those_of_pillow(method: int, quality: int) -> None:
    """Both bundle libwebp; where their versions differ the bytes might."""
    from PIL import features

    codec = make_codec("webp", method=method)
    if str(features.version("webp")) not in codec.version():
        pytest.skip("Pillow and imagecodecs bundle different versions of libwebp")
    assert codec.encode(colour(), quality) == pillow_file(colour(), quality=quality, method=method)


def test_method_is_an_option_with_bounds() -> None:
    assert len({make_codec("webp", method=method).encode(colour(), 30) for method in (0, 4, 6)}) == 3
    assert make_codec("webp") == make_codec("webp", method=6)
    for method in (-1, 7):
        with pytest.raises(UsageError, match="method"):
            make_codec("webp", method=method)


def test_tuned_files_cost_fewer_bytes_at_equal_error() -> None:
    qualities = (0, 5, 20, 40, 60, 80)
    plain, tuned = make_codec("webp"), make_codec("webp", tune="psnr")
    assert bytes_saved_percent(tuned, plain, qualities) > 3
    for quality in qualities:
        data = tuned.encode(colour(), quality)
        assert [name for name, _ in chunks(data)] == [b"VP8 "]
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(data))), tuned.decode(data))


@pytest.mark.parametrize("tune", ["default", "psnr"])
def test_without_loop_filter_only_what_is_shown_differs(tune: str) -> None:
    codec = make_codec("webp", tune=tune, loop_filter=False)
    filtered, unfiltered = codec.unaided().encode(colour(), 10), codec.encode(colour(), 10)
    assert codec.unaided() == make_codec("webp", tune=tune)
    first, second = (np.asarray(PIL.Image.open(io.BytesIO(data))) for data in (filtered, unfiltered))
    assert np.array_equal(second, codec.decode(unfiltered))
    assert abs(len(filtered) - len(unfiltered)) < 0.01 * len(filtered)
    assert psnr(colour(), first) > psnr(colour(), second) + 0.05


def test_grey_pictures_need_three_channels() -> None:
    with pytest.raises(CodecError, match=r"\(H, W, 3\)"):
        make_codec("webp").encode(grey(), 50)


def test_the_payload_is_a_chunk_of_its_own() -> None:
    codec = make_codec("webp")
    data = codec.encode(colour(), 30)
    for payload in (b"odd", b"even"):
        assert chunks(codec.embed(data, payload)) == [*chunks(data), (b"vcfr", payload)]


def test_foreign_chunks_are_left_alone() -> None:
    codec = make_codec("webp")
    foreign = pillow_file(colour(), quality=50, exif=b"Exif\0\0anything")
    assert codec.extract(foreign) is None
    assert codec.extract(codec.embed(foreign, b"ours")) == (foreign, b"ours")


def test_other_kinds_of_webp_decode_as_pillow_shows_them() -> None:
    codec = make_codec("webp")
    opaque = PIL.Image.fromarray(colour())
    files = [pillow_file(colour(), lossless=True), pillow_file(colour(), quality=50, exif=b"Exif\0\0x")]
    for data in files:
        assert np.array_equal(codec.decode(data), np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")))
        assert codec.probe(data) == (*colour().shape[:2], 3)
    out = io.BytesIO()
    opaque.save(out, "WEBP", save_all=True, append_images=[opaque.rotate(90)])
    with pytest.raises(CodecError, match="animation"):
        codec.decode(out.getvalue())


def test_a_huge_canvas_is_refused() -> None:
    data = bytearray(pillow_file(colour(), quality=50, exif=b"Exif\0\0x"))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff" * 6
    with pytest.raises(CodecError, match="header claims 16777216x16777216"):
        make_codec("webp").decode(bytes(data))


def test_tuning_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webp", None)
    with pytest.raises(CodecError, match=r"webp: tune=psnr: .*; install it with: pip install webp"):
        make_codec("webp", tune="psnr").encode(colour(), 30)

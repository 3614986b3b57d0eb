"""What every first-party backend promises: the conformance kit, and other people's decoders."""

from __future__ import annotations

import random
import sys
from functools import partial

import imagecodecs
import numpy as np
import pytest
from backends import (
    EXTRAS,
    MISSING,
    NAMES,
    Decoder,
    colour,
    decode_ffmpeg,
    decode_imagecodecs,
    decode_opencv,
    decode_opencv_video,
    decode_pillow,
    largest_difference,
    make_codec,
    photographs,
)

from vcframe import Codec, CodecError, Image
from vcframe.testing import Check, codec_checks

SIZES = [(1, 1), (2, 3), (7, 5), (1, 40), (17, 16), (33, 31), (48, 64), (5000, 3), (3, 5000)]
SECOND_DECODERS: dict[str, list[Decoder]] = {
    "jpeg": [decode_pillow, decode_opencv],
    "jpeg2000": [decode_pillow, decode_opencv],
    "webp": [decode_pillow, decode_opencv],
    "hevc": [decode_opencv_video],
    "avif": [decode_opencv, decode_imagecodecs],
    "jpegxl": [],
    "h264": [decode_opencv_video],
    "av1": [],
    "heic": [],
    "mozjpeg": [decode_pillow, decode_opencv],
    "neural": [],
    "vvc": [],
}
PAYLOAD_DECODERS: dict[str, list[Decoder]] = {
    "jpeg": [partial(decode_ffmpeg, name="mjpeg"), imagecodecs.jpeg_decode],
    "jpeg2000": [partial(decode_ffmpeg, name="jpeg2000")],
    "webp": [partial(decode_ffmpeg, name="webp")],
    "hevc": [partial(decode_ffmpeg, name="hevc")],
}
"""Further ones, some of which give planes: enough to see whether a payload changes anything."""
PACKAGES = {
    "jpeg": ("PIL.Image", "pillow"),
    "jpeg2000": ("imagecodecs", "imagecodecs"),
    "webp": ("imagecodecs", "imagecodecs"),
    "hevc": ("av", "av"),
    "avif": ("PIL", "'pillow"),
    "jpegxl": ("imagecodecs", "imagecodecs"),
    "h264": ("av", "av"),
    "av1": ("av", "av"),
    "heic": ("pillow_heif", "'vcframe[heic]'"),
    "mozjpeg": ("jpeglib", "'vcframe[mozjpeg]'"),
    "neural": ("constriction", "'vcframe[neural]'"),
    "vvc": ("imageio_ffmpeg", "'vcframe[vvc]'"),
}
LIBRARIES = {
    "jpeg": "libjpeg-turbo",
    "jpeg2000": "openjpeg",
    "webp": "libwebp",
    "hevc": "x265",
    "avif": "libavif",
    "jpegxl": "libjxl",
    "h264": "x264",
    "av1": "libavcodec",
    "heic": "libheif",
    "mozjpeg": "mozjpeg",
    "neural": "constriction",
    "vvc": "VVenC",
}


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return make_codec(request.param)


def tiled(source: Image, size: tuple[int, int]) -> Image:
    """The photograph's samples, in order, poured into another size."""
    return np.resize(source, size + source.shape[2:])


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_is_tested_where_it_is_installed(name: str) -> None:
    if name in MISSING:
        pytest.skip(MISSING[name])
    assert name in NAMES


CHECKS = [check for name in NAMES for check in codec_checks(make_codec(name))]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.codec.name}-{check.name}")
def test_promise(check: Check) -> None:
    check()


# Other people's decoders


@pytest.mark.parametrize("size", [*SIZES, (96, 145)], ids=str)
def test_second_decoders_show_the_same_picture(codec: Codec, size: tuple[int, int]) -> None:
    for source in photographs(codec):
        image = tiled(source, size)
        data = codec.encode(image, codec.quality_scale.native(0.4))
        for decoder in SECOND_DECODERS[codec.name]:
            (assert_same_video if decoder is decode_opencv_video else np.testing.assert_array_equal)(
                codec.decode(data), decoder(data)
            )


def assert_same_video(ours: Image, theirs: Image) -> None:
    """A video player shows RGB, cannot crop an odd side in 4:2:0, and doubles the chroma in its own way."""
    height, width = ours.shape[:2]
    if ours.ndim == 2:
        # H.264's decoder gives grey pictures flat chroma, of which small ones get a tint of 2 in the player.
        assert largest_difference(np.stack([ours] * 3, axis=2), theirs) <= 2
        return
    assert theirs.shape == (height + height % 2, width + width % 2, 3)
    # Weights of BT.601: the planes agree, so luma may differ by the player's rounding only.
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs((ours - theirs[:height, :width].astype(float)) @ weights).mean() <= 1.5


# Damage


def test_empty_and_foreign_data_are_refused(codec: Codec) -> None:
    noise = random.Random(5)
    # Two codecs may write one format.
    others = [other for other in map(make_codec, NAMES) if other.extension != codec.extension]
    foreign = [other.encode(colour()[:32, :32], other.quality_scale.native(0.5)) for other in others]
    garbage = [b"", b"\0", b"\xff" * 100, b"\0" * 1000, *(noise.randbytes(n) for n in (1, 10, 100, 1000))]
    for data in foreign + garbage:
        with pytest.raises(CodecError):
            codec.decode(data)
        with pytest.raises(CodecError):
            codec.probe(data)
        assert codec.extract(data) is None


def test_a_library_error_is_chained(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(codec), "probe", lambda self, data: (4, 4, 3))
    with pytest.raises(CodecError, match=f"^{codec.name}: decoding failed: ") as raised:
        codec.decode(b"\xff" * 100)
    assert raised.value.__cause__ is not None


# Payloads


def test_second_decoders_do_not_see_a_payload(codec: Codec) -> None:
    for image in photographs(codec):
        # PyAV gives out planes of even width only.
        data = codec.encode(image[:, :144], codec.quality_scale.native(0.3))
        carrying = codec.embed(data, bytes(range(13)))
        for decoder in SECOND_DECODERS[codec.name] + PAYLOAD_DECODERS.get(codec.name, []):
            assert np.array_equal(decoder(data), decoder(carrying))


def test_a_payload_cut_short_is_not_taken_for_one(codec: Codec) -> None:
    data = codec.encode(colour()[:32, :32], codec.quality_scale.native(0.3))
    carrying = codec.embed(data, b"thirteen byte")
    for length in range(len(carrying)):
        found = codec.extract(carrying[:length])
        assert found is None or found[1] == b"thirteen byte"


# Libraries


def test_version_names_the_library(codec: Codec) -> None:
    name, number = codec.version().split()[:2]
    assert name == LIBRARIES[codec.name]
    assert number[0].isdigit()


def test_a_missing_library_is_named_with_its_package(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert codec.unavailable() is None
    module, package = PACKAGES[codec.name]
    monkeypatch.setitem(sys.modules, module, None)
    reason = codec.unavailable()
    assert reason is not None
    assert f"pip install {package}" in reason

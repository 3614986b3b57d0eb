"""What every first-party backend promises, checked on all four."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import pytest
from backends import (
    NAMES,
    Decoder,
    colour,
    decode_ffmpeg,
    decode_opencv,
    decode_opencv_video,
    decode_pillow,
    largest_difference,
    make_codec,
    photo,
    photographs,
    psnr,
)

from vcframe import Codec, CodecError, Image

SIZES = [(1, 1), (2, 3), (7, 5), (1, 40), (17, 16), (33, 31), (48, 64), (5000, 3), (3, 5000)]
SECOND_DECODERS: dict[str, list[Decoder]] = {
    "jpeg": [decode_pillow, decode_opencv],
    "jpeg2000": [decode_pillow, decode_opencv],
    "webp": [decode_pillow, decode_opencv],
    "hevc": [decode_opencv_video],
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
}
LIBRARIES = {"jpeg": "libjpeg-turbo", "jpeg2000": "openjpeg", "webp": "libwebp", "hevc": "x265"}
PAYLOADS = [
    b"",
    b"\0",
    bytes(range(13)),
    b"\0\0\1\0\0\0\0\3\0\0",
    b"\xff\xd9\xff\x90" * 9,
    b"\0" * 255,
]


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return make_codec(request.param)


def tiled(source: Image, size: tuple[int, int]) -> Image:
    """The photograph's samples, in order, poured into another size."""
    return np.resize(source, size + source.shape[2:])


# Pictures in, pictures out


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_comes_back_as_it_went_in(codec: Codec, size: tuple[int, int]) -> None:
    for source in photographs(codec):
        image = tiled(source, size)
        for unit in (0.3,) if max(size) > 1000 else (0.0, 0.6, 1.0):
            data = codec.encode(image, codec.quality_scale.native(unit))
            decoded = codec.decode(data)
            assert decoded.shape == image.shape
            assert decoded.dtype == np.uint8
            assert decoded.flags.c_contiguous
            assert codec.probe(data) == (*size, 1 if image.ndim == 2 else 3)


@pytest.mark.parametrize("sample", [(200, 30, 60), (0, 0, 0), (255, 255, 255), (10, 240, 130)], ids=str)
def test_flat_pictures_keep_their_colour(codec: Codec, sample: tuple[int, int, int]) -> None:
    image = np.full((37, 21, 3), sample, np.uint8)
    decoded, _ = codec.roundtrip(image, codec.quality_scale.native(1.0))
    assert largest_difference(image, decoded) <= 3


def test_rows_and_columns_are_not_swapped_or_shifted(codec: Codec) -> None:
    image = np.zeros((45, 83, 3), np.uint8)
    image[:20, 50:] = 255
    decoded, _ = codec.roundtrip(image, codec.quality_scale.native(1.0))
    assert np.abs(decoded.astype(float) - image).mean() < 2


def test_size_and_psnr_grow_along_the_sweep(codec: Codec) -> None:
    busy = np.ascontiguousarray(photo("coffee")[40:232, 200:456])
    for image in [busy, np.ascontiguousarray(busy[:, :, 1])] if codec.traits.grey else [busy]:
        files = [codec.encode(image, quality) for quality in codec.quality_scale.sweep]
        sizes = [len(data) for data in files]
        decibels = [psnr(image, codec.decode(data)) for data in files]
        assert sizes == sorted(set(sizes))
        assert decibels == sorted(set(decibels))
        assert decibels[-1] - decibels[0] > 10
        # Few entries would do the work of many if one step held most of the range.
        steps = np.diff(np.log(sizes))
        assert steps.max() < 0.3 * steps.sum()


def test_four_threads_and_a_repeat_give_the_same_bytes(codec: Codec) -> None:
    qualities = codec.quality_scale.sweep[::3]
    jobs = [(image, quality) for image in photographs(codec) for quality in qualities]
    alone = [codec.encode(*job) for job in jobs]
    seen = [codec.decode(data) for data in alone]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: codec.encode(*job), jobs * 2))
        decoded = list(pool.map(codec.decode, alone * 2))
    assert together == alone * 2
    assert all(np.array_equal(a, b) for a, b in zip(decoded, seen * 2, strict=True))


def test_memory_order_does_not_matter(codec: Codec) -> None:
    quality = codec.quality_scale.native(0.5)
    turned = colour().transpose(1, 0, 2)
    assert codec.encode(turned, quality) == codec.encode(np.ascontiguousarray(turned), quality)
    assert codec.encode(colour()[:, ::-1], quality) != codec.encode(colour(), quality)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 8, 4), np.uint8),
        ((8, 8, 3), np.uint16),
        ((8, 8, 3), np.float32),
        ((0, 8, 3), np.uint8),
        ((8,), np.uint8),
        ((1, 70_000, 3), np.uint8),
    ],
    ids=str,
)
def test_other_pictures_are_refused(codec: Codec, shape: tuple[int, ...], dtype: Any) -> None:
    with pytest.raises(CodecError, match=codec.name):
        codec.encode(np.zeros(shape, dtype), codec.quality_scale.maximum)


# Other people's decoders


@pytest.mark.parametrize("size", [*SIZES, (96, 145)], ids=str)
def test_second_decoders_show_the_same_picture(codec: Codec, size: tuple[int, int]) -> None:
    for source in photographs(codec):
        image = tiled(source, size)
        data = codec.encode(image, codec.quality_scale.native(0.4))
        for decoder in SECOND_DECODERS[codec.name]:
            (assert_same_video if codec.name == "hevc" else np.testing.assert_array_equal)(
                codec.decode(data), decoder(data)
            )


def assert_same_video(ours: Image, theirs: Image) -> None:
    """A video player shows RGB, cannot crop an odd side in 4:2:0, and doubles the chroma in its own way."""
    height, width = ours.shape[:2]
    if ours.ndim == 2:
        np.testing.assert_array_equal(np.stack([ours] * 3, axis=2), theirs)
        return
    assert theirs.shape == (height + height % 2, width + width % 2, 3)
    # Weights of BT.601: the planes agree, so luma may differ by the player's rounding only.
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs((ours - theirs[:height, :width].astype(float)) @ weights).mean() <= 1.5


# Damage


def test_empty_and_foreign_data_are_refused(codec: Codec) -> None:
    noise = random.Random(5)
    others = [make_codec(name) for name in NAMES if name != codec.name]
    foreign = [other.encode(colour()[:32, :32], other.quality_scale.native(0.5)) for other in others]
    garbage = [b"", b"\0", b"\xff" * 100, b"\0" * 1000, *(noise.randbytes(n) for n in (1, 10, 100, 1000))]
    for data in foreign + garbage:
        with pytest.raises(CodecError):
            codec.decode(data)
        with pytest.raises(CodecError):
            codec.probe(data)
        assert codec.extract(data) is None


def test_every_truncation_is_refused(codec: Codec) -> None:
    for source in photographs(codec):
        data = codec.encode(source[:64, :64], codec.quality_scale.native(0.2))
        for length in [*range(0, len(data), 7), *range(len(data) - 8, len(data))]:
            with pytest.raises(CodecError):
                codec.decode(data[:length])


def test_damage_never_raises_anything_but_codec_errors(codec: Codec) -> None:
    """No format here checks its samples, so a damaged picture may come out, in the size that is announced."""
    chance = random.Random(7)
    limited = type(codec)(max_pixels=1_000_000)
    good = codec.embed(codec.encode(colour()[:64, :48], codec.quality_scale.native(0.4)), b"payload")
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        length = chance.choice([len(bad), len(bad), chance.randrange(len(bad))])
        data = bytes(bad[:length]) + chance.randbytes(chance.choice([0, 0, 50]))
        with contextlib.suppress(CodecError):
            limited.extract(data)
        with contextlib.suppress(CodecError):
            limited.embed(data, b"x")
        with contextlib.suppress(CodecError):
            decoded = limited.decode(data)
            assert (*decoded.shape, 1)[:3] == limited.probe(data)


def test_a_library_error_is_chained(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(codec), "probe", lambda self, data: (4, 4, 3))
    with pytest.raises(CodecError, match=f"^{codec.name}: decoding failed: ") as raised:
        codec.decode(b"\xff" * 100)
    assert raised.value.__cause__ is not None


def test_more_pixels_than_the_limit_are_refused(codec: Codec) -> None:
    data = codec.encode(colour(), codec.quality_scale.native(0.5))
    with pytest.raises(CodecError, match="header claims 145x96 pixels"):
        type(codec)(max_pixels=145 * 96 - 1).decode(data)
    assert type(codec)(max_pixels=145 * 96).decode(data).shape == (96, 145, 3)


# Payloads


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: f"{len(payload)} bytes {payload[:4].hex()}")
def test_extract_undoes_embed(codec: Codec, payload: bytes) -> None:
    for image in photographs(codec):
        data = codec.encode(image, codec.quality_scale.native(0.3))
        assert codec.extract(data) is None
        carrying = codec.embed(data, payload)
        assert codec.extract(carrying) == (data, payload)
        assert len(carrying) <= len(data) + 1.5 * len(payload) + 10
        assert codec.probe(carrying) == codec.probe(data)
        assert np.array_equal(codec.decode(carrying), codec.decode(data))


def test_the_last_of_two_payloads_comes_out_first(codec: Codec) -> None:
    one = codec.embed(codec.encode(colour(), codec.quality_scale.native(0.3)), b"one")
    assert codec.extract(codec.embed(one, b"two")) == (one, b"two")


def test_second_decoders_do_not_see_a_payload(codec: Codec) -> None:
    for image in photographs(codec):
        # PyAV gives out planes of even width only.
        data = codec.encode(image[:, :144], codec.quality_scale.native(0.3))
        carrying = codec.embed(data, bytes(range(13)))
        for decoder in SECOND_DECODERS[codec.name] + PAYLOAD_DECODERS[codec.name]:
            assert np.array_equal(decoder(data), decoder(carrying))


def test_a_payload_cut_short_is_not_taken_for_one(codec: Codec) -> None:
    data = codec.encode(colour()[:32, :32], codec.quality_scale.native(0.3))
    carrying = codec.embed(data, b"thirteen byte")
    for length in range(len(carrying)):
        found = codec.extract(carrying[:length])
        assert found is None or found[1] == b"thirteen byte"


# Facts and configuration


def test_configuration_survives_json(codec: Codec) -> None:
    config = json.loads(json.dumps(codec.config()))
    assert type(codec).from_config(config) == codec


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


@pytest.mark.parametrize("name", NAMES)
def test_plugin_modules_import_no_codec_library(name: str) -> None:
    heavy = {"PIL", "imagecodecs", "av", "cv2", "torch", "skimage", "scipy"}
    script = f"import sys, vcframe_plugins.{name}; print({heavy} & set(sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"

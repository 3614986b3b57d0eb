"""Pictures through real codecs, with and without a model, and back.

A freshly initialised model of preset `small` is exactly plain resampling (its residuals start at zero), so
Pillow's and OpenCV's bicubic filters are the reference for what it does.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

from vcframe import Codec, CodecError, Image, UsageError, VcframeError, coder
from vcframe.coder import Restored, decompress
from vcframe.metrics import psnr
from vcframe.model import Card, Model
from vcframe.networks import Preset, build_networks
from vcframe.registry import Registry
from vcframe.stream import StreamError, unpack
from vcframe.ways import Compressed

CODECS = ["jpeg", "jpeg2000", "webp", "hevc"]
MIDDLE = {"jpeg": 40, "jpeg2000": 30, "webp": 40, "hevc": 34}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture(scope="module")
def photo() -> Image:
    return np.ascontiguousarray(skimage.data.chelsea()[100:164, 100:196])


def fresh_model(codec: Codec, scale: int = 2, channels: int = 3, preset: Preset = "small") -> Model:
    torch.manual_seed(1)
    card = Card(
        codec=codec.config(),
        codec_version="any",
        preset=preset,
        block=codec.traits.block,
        channels=channels,  # type: ignore[arg-type]
        training={scale: {}},
        vcframe_version="any",
    )
    return Model(card, {scale: build_networks(preset, scale, codec.traits.block, channels)})


def compress(image: Image, codec: Codec, *, model: Model | None = None, **request: Any) -> Compressed:
    """At the model's one scale: the encoder's choice has tests of its own."""
    return coder.compress(image, codec, model=model, scale=model and model.card.scales[0], **request)


def restore(data: bytes, registry: Registry, model: Model) -> Restored:
    def find(model_id: str, codec: Codec) -> Model:
        assert model_id == model.id
        return model

    return decompress(data, registry, find)


def no_model(model_id: str, codec: Codec) -> Model:
    raise AssertionError(f"asked for model {model_id}")


@pytest.mark.parametrize("name", CODECS)
def test_without_a_model_the_file_is_the_plain_codecs(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    result = compress(photo, codec, quality=MIDDLE[name])
    assert result.data == codec.encode(photo, MIDDLE[name])
    assert result.bpp == 8 * result.num_bytes / (64 * 96)
    assert result.quality == MIDDLE[name]
    restored = decompress(result.data, registry, no_model)
    assert (restored.codec_name, restored.model_id, restored.coded_size) == (name, None, (64, 96))
    assert np.array_equal(restored.image, codec.decode(result.data))


@pytest.mark.parametrize("name", CODECS)
def test_with_a_model_the_file_is_an_ordinary_one(name: str, registry: Registry, photo: Image) -> None:
    """A codec with a place for the payload writes files whose pixels its plain decoder reads."""
    codec = registry.codec(name)
    result = compress(photo, codec, quality=MIDDLE[name], model=fresh_model(codec))
    assert result.description.shape == (32, 48, 3)
    plain = codec.encode(result.description, MIDDLE[name])
    assert len(plain) < result.num_bytes <= len(plain) + 64
    assert np.array_equal(codec.decode(result.data), codec.decode(plain))


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_pillow_opens_the_files_and_sees_the_description(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    result = compress(photo, codec, quality=MIDDLE[name], model=fresh_model(codec))
    with PIL.Image.open(io.BytesIO(result.data)) as seen:
        assert psnr(np.asarray(seen.convert("RGB")), result.description) > 25


@pytest.mark.parametrize("name", CODECS)
def test_a_fresh_model_is_plain_bicubic(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    model = fresh_model(codec)
    result = compress(photo, codec, quality=MIDDLE[name], model=model)
    half = np.asarray(PIL.Image.fromarray(photo).resize((48, 32), PIL.Image.Resampling.BICUBIC))
    assert np.abs(result.description.astype(int) - half).max() <= 1

    restored = restore(result.data, registry, model)
    assert (restored.codec_name, restored.model_id, restored.coded_size) == (name, model.id, (32, 48))
    enlarged = cv2.resize(codec.decode(result.data), (96, 64), interpolation=cv2.INTER_CUBIC)
    # OpenCV filters 8-bit pictures with 11-bit weights, and torch repeats the edge where OpenCV does too.
    assert np.abs(restored.image.astype(int) - enlarged).max() <= 1


@pytest.mark.parametrize("name", CODECS)
def test_at_full_size_a_fresh_model_changes_nothing(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    model = fresh_model(codec, scale=1)
    result = compress(photo, codec, quality=MIDDLE[name], model=model)
    assert np.array_equal(result.description, photo)
    plain = codec.decode(codec.encode(photo, MIDDLE[name]))
    assert np.array_equal(restore(result.data, registry, model).image, plain)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (5, 7), (31, 33), (3, 200)])
@pytest.mark.parametrize("name", CODECS)
def test_any_size_comes_back(name: str, size: tuple[int, int], scale: int, registry: Registry) -> None:
    codec = registry.codec(name)
    model = fresh_model(codec, scale)
    image = np.full((*size, 3), (200, 120, 40), np.uint8)
    result = compress(image, codec, quality=MIDDLE[name], model=model)
    restored = restore(result.data, registry, model)
    assert restored.coded_size == (math.ceil(size[0] / scale), math.ceil(size[1] / scale))
    assert restored.image.shape == image.shape
    assert psnr(restored.image, image) > 15  # a lone pixel is all that JPEG 2000 has to allot its error to


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_stays_grey(name: str, channels: int, registry: Registry, photo: Image) -> None:
    """Also through a codec without grey, which is given three equal channels."""
    codec = registry.codec(name)
    model = fresh_model(codec, channels=channels)
    grey = np.array(PIL.Image.fromarray(photo).convert("L"))
    result = compress(grey, codec, quality=MIDDLE[name], model=model)
    assert result.description.ndim == (2 if codec.traits.grey else 3)
    restored = restore(result.data, registry, model).image
    assert restored.shape == grey.shape
    assert psnr(restored, grey) > 25


def test_grey_without_a_model_or_grey_support(registry: Registry) -> None:
    grey = np.full((20, 30), 90, np.uint8)
    assert decompress(compress(grey, registry.codec("webp"), quality=50).data, registry, no_model)


def test_both_sides_give_the_networks_the_same_rounded_unit(
    registry: Registry, photo: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = registry.codec("jpeg")
    model, units = fresh_model(codec), []
    describe, restore_with = model.describe, model.restore

    def spy_describe(image: Image, unit: float, scale: int) -> Image:
        units.append(unit)
        return describe(image, unit, scale)

    def spy_restore(decoded: Image, unit: float, scale: int, size: tuple[int, int]) -> Image:
        units.append(unit)
        return restore_with(decoded, unit, scale, size)

    monkeypatch.setattr(model, "describe", spy_describe)
    monkeypatch.setattr(model, "restore", spy_restore)
    restore(compress(photo, codec, quality=37, model=model).data, registry, model)
    exact = codec.quality_scale.unit(37)
    assert units == [round(255 * exact) / 255] * 2
    assert units[0] != exact


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("target_bpp", [1.6, 3.0])
def test_the_target_is_kept_and_used(
    name: str, with_model: bool, target_bpp: float, registry: Registry, photo: Image
) -> None:
    """No quality of a full scan that fits is above the one that the search found."""
    codec = registry.codec(name)
    model = fresh_model(codec) if with_model else None
    result = compress(photo, codec, target_bpp=target_bpp, model=model)
    assert result.bpp <= target_bpp
    scan = codec.quality_scale.steps()[:: 4 if len(codec.quality_scale.steps()) > 200 else 1]
    fitting = [q for q in scan if compress(photo, codec, quality=q, model=model).bpp <= target_bpp]
    unit = codec.quality_scale.unit
    assert unit(result.quality) >= max(map(unit, fitting))


def test_the_target_search_makes_few_calls(
    registry: Registry, photo: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = registry.codec("jpeg2000")
    qualities: list[float] = []
    encode = codec.encode

    def spy(image: Image, quality: float) -> bytes:
        qualities.append(quality)
        return encode(image, quality)

    monkeypatch.setattr(codec, "encode", spy)
    compress(photo, codec, target_bpp=1.0)
    assert len(qualities) == len(set(qualities)) <= math.log2(351) + 5


def test_a_generous_target_gets_the_best_quality(registry: Registry, photo: Image) -> None:
    assert compress(photo, registry.codec("jpeg"), target_bpp=50).quality == 95


@pytest.mark.parametrize("with_model", [False, True])
def test_an_unreachable_target_names_the_lowest_rate(
    with_model: bool, registry: Registry, photo: Image
) -> None:
    codec = registry.codec("jpeg")
    model = fresh_model(codec) if with_model else None
    with pytest.raises(UsageError, match=r"jpeg cannot reach 0\.01 bpp.*lowest is \d") as error:
        compress(photo, codec, target_bpp=0.01, model=model)
    named = float(str(error.value).split("lowest is ")[1].split()[0])
    assert compress(photo, codec, target_bpp=named, model=model).bpp <= named < 1.5


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "either a quality or a target"),
        ({"quality": 10, "target_bpp": 1.0}, "either a quality or a target"),
        ({"quality": 96}, r"quality 96 is outside 1\.\.95"),
        ({"quality": math.nan}, "quality nan is outside"),
        ({"target_bpp": 0.0}, "target 0 bpp must be above 0"),
        ({"target_bpp": -1.0}, "target -1 bpp must be above 0"),
        ({"target_bpp": math.nan}, "target nan bpp"),
        ({"target_bpp": math.inf}, "target inf bpp"),
    ],
)
def test_bad_requests_are_refused(
    request_: dict[str, Any], message: str, registry: Registry, photo: Image
) -> None:
    with pytest.raises(UsageError, match=message):
        compress(photo, registry.codec("jpeg"), **request_)


def test_a_model_of_another_codec_is_refused_but_not_for_other_options(
    registry: Registry, photo: Image
) -> None:
    model = fresh_model(registry.codec("webp", method=3))
    with pytest.raises(UsageError, match=rf"{model.id} was trained for webp, not jpeg"):
        compress(photo, registry.codec("jpeg"), quality=10, model=model)
    data = compress(photo, registry.codec("webp", method=5), quality=10, model=model).data
    assert restore(data, registry, model).model_id == model.id


def both_scales(codec: Codec) -> Model:
    return Model.joined([fresh_model(codec, 1), fresh_model(codec, 2)])


def adversary(kind: str) -> Image:
    if kind == "one pixel":
        return np.full((1, 1, 3), (3, 250, 90), np.uint8)
    if kind == "flat":
        return np.full((40, 56, 3), (3, 250, 90), np.uint8)
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    page = skimage.data.page()[20:84, 10:106]
    return np.ascontiguousarray(np.stack([page] * 3, 2))


@pytest.mark.parametrize("kind", ["one pixel", "flat", "noise", "text"])
@pytest.mark.parametrize("name", CODECS)
def test_the_encoders_choice_is_never_worse_than_the_plain_codec(
    name: str, kind: str, registry: Registry
) -> None:
    """Even with networks that spoil every picture: at the plain codec's bytes, at least its PSNR."""
    codec, image = registry.codec(name), adversary(kind)
    model = both_scales(codec)
    with torch.no_grad():
        for networks in model.networks.values():
            networks.post.trunk.tail.bias += 3  # type: ignore[union-attr,operator]
    plain = codec.encode(image, MIDDLE[name])
    result = coder.compress(image, codec, quality=MIDDLE[name], model=model)
    assert result.num_bytes <= len(plain)
    restored = restore(result.data, registry, model).image
    assert psnr(image, restored) >= psnr(image, codec.decode(plain))


def test_the_encoder_chooses_half_size_where_it_restores_best(registry: Registry) -> None:
    """A smooth picture at few bytes: half the sides leave JPEG four times the bits for each block."""
    codec = registry.codec("jpeg")
    model = both_scales(codec)
    image = np.ascontiguousarray(skimage.data.astronaut()[:160, :160])
    plain = coder.compress(image, codec, quality=4)
    result = coder.compress(image, codec, quality=4, model=model)
    assert result.scale == 2
    assert result.num_bytes <= plain.num_bytes
    restored = restore(result.data, registry, model).image
    assert psnr(image, restored) > psnr(image, codec.decode(plain.data)) + 0.3
    # Fresh networks at full size change nothing, and the payload costs bytes: the plain file is better.
    fine = coder.compress(image, codec, target_bpp=2.5, model=model)
    assert fine.scale is None
    assert fine.data == codec.encode(image, fine.quality)
    coarse = coder.compress(image, codec, quality=4, model=model, scale=1)
    assert (coarse.scale, coarse.quality) == (1, 4)


def test_a_scale_that_the_model_lacks_is_refused(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    with pytest.raises(UsageError, match="no networks for scale 1, only for 2"):
        coder.compress(photo, codec, quality=10, model=fresh_model(codec), scale=1)


def test_what_no_scale_can_reach_is_refused_with_the_lowest_rate(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    with pytest.raises(UsageError, match=r"cannot reach 0.01 bpp on this picture: the lowest is \d"):
        coder.compress(photo, codec, target_bpp=0.01, model=both_scales(codec))


def test_a_model_of_one_quality_is_given_no_other(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    model = fresh_model(codec)
    model.card = model.card.model_copy(update={"training": {2: {"schedule": "paper", "quality": 10.0}}})
    assert compress(photo, codec, quality=10, model=model).quality == 10
    for asked, word in (({"quality": 11}, "11"), ({"target_bpp": 2.0}, "every one")):
        message = f"model {model.id} knows one quality, not {word}: give quality 10"
        with pytest.raises(UsageError, match=message):
            compress(photo, codec, model=model, **asked)


def test_a_grey_model_refuses_colour(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    with pytest.raises(UsageError, match="grey"):
        compress(photo, codec, quality=10, model=fresh_model(codec, channels=1))


@pytest.mark.parametrize("name", CODECS)
def test_no_damaged_file_passes_for_good(name: str, registry: Registry) -> None:
    """Each bit of a small file in turn: an error, or the description as an ordinary picture.

    Where a carrier has bytes that say nothing (padding), the picture may also come back as it was.
    """
    codec = registry.codec(name)
    model = fresh_model(codec)
    data = compress(np.full((6, 9, 3), 77, np.uint8), codec, quality=MIDDLE[name], model=model).data
    intact = restore(data, registry, model).image
    num_refused = 0
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        try:
            restored = restore(bytes(damaged), registry, model)
            assert restored.model_id is None or np.array_equal(restored.image, intact)
        except VcframeError:
            num_refused += 1
    assert num_refused > 0.8 * 8 * len(data)


@pytest.mark.parametrize("name", CODECS)
def test_a_damaged_stream_never_reaches_the_codec(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    data = bytearray(compress(photo, codec, quality=MIDDLE[name], model=fresh_model(codec)).data)
    unpacked = unpack(bytes(data), [codec])
    assert unpacked is not None
    data[data.index(unpacked.stream[-40:-20])] ^= 1
    with pytest.raises(StreamError, match="damaged"):
        decompress(bytes(data), registry, no_model)


def test_a_model_of_another_scale_is_refused(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    data = compress(photo, codec, quality=20, model=fresh_model(codec)).data
    with pytest.raises(StreamError, match=r"scales \[1\], the file has 2"):
        decompress(data, registry, lambda model_id, codec: fresh_model(codec, scale=1))


@pytest.mark.parametrize("max_pixels", [1000, 5000])
def test_too_many_pixels_are_refused(max_pixels: int, registry: Registry, photo: Image) -> None:
    """64x96 original pixels in 32x48 coded ones: the limit holds for either."""
    codec = registry.codec("jpeg")
    data = compress(photo, codec, quality=20, model=fresh_model(codec)).data
    with pytest.raises(CodecError, match=f"outside 1..{max_pixels}"):
        decompress(data, registry, no_model, max_pixels=max_pixels)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"VCF0" + bytes(30), bytes(1000)])
def test_garbage_is_nobodys(data: bytes, registry: Registry) -> None:
    with pytest.raises(CodecError, match="no codec recognises this file"):
        decompress(data, registry, no_model)


PLUGIN = '''
import numpy as np

import vcframe


class Bare(vcframe.Codec):
    """Keeps a few bits of each sample; its format has no place for a payload."""

    name = "bare"
    extension = ".bare"
    quality_scale = vcframe.QualityScale(1, 8, 1, (1, 2, 5, 8), "bits kept")
    traits = vcframe.Traits(block=1)

    def encode(self, image, quality):
        image = self.check_image(image)
        keep = np.uint8(256 - 2 ** (8 - int(quality)))
        return b"bare%4d%4d%4d" % (*image.shape[:2], image.size) + (image & keep).tobytes()

    def decode(self, data):
        height, width, channels = self.check_stream(data)
        image = np.frombuffer(data, np.uint8, offset=16).reshape(height, width, channels)
        return image.copy() if channels == 3 else image[:, :, 0].copy()

    def probe(self, data):
        if data[:4] != b"bare":
            raise vcframe.CodecError("bare: not a bare file")
        height, width, size = (int(data[i : i + 4]) for i in (4, 8, 12))
        return height, width, size // (height * width)

    def version(self):
        return "1"


@vcframe.hookimpl
def vcframe_codecs():
    return [Bare]
'''


def test_a_codec_without_a_place_for_the_payload_gets_the_container(tmp_path: Path, photo: Image) -> None:
    (tmp_path / "bare.py").write_text(PLUGIN)
    registry = Registry.load([tmp_path / "bare.py"])
    codec = registry.codec("bare")
    model = fresh_model(codec)
    image = photo[:21, :31]
    result = compress(image, codec, quality=8, model=model)
    assert result.data.startswith(b"VCF1\x04bare")
    restored = restore(result.data, registry, model)
    assert (restored.codec_name, restored.image.shape) == ("bare", image.shape)
    assert psnr(restored.image, image) > 28
    with pytest.raises(VcframeError, match="unknown codec 'bare'"):
        restore(result.data, Registry.load(), model)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("extract", "lambda self, data: 1 / 0"),
        ("extract", "lambda self, data: (data,)"),
        ("extract", "lambda self, data: (data, data[:11])"),
        ("probe", "lambda self, data: 1 / 0"),
        ("probe", "lambda self, data: None"),
        ("probe", "lambda self, data: exit('bye')"),
        ("probe", "lambda self, data: (64, 96, 3)"),
    ],
)
def test_a_sloppy_codec_spoils_only_its_own_files(
    method: str, wrong: str, tmp_path: Path, photo: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name puts it before the others; a codec that takes everything for its own is no exception."""
    source = PLUGIN.replace("bare", "aaa") + f"\nBare.{method} = {wrong}\n"
    (tmp_path / "sloppy.py").write_text(source)
    registry = Registry.load([tmp_path / "sloppy.py"])
    assert next(iter(registry.codecs)) == "aaa"
    codec = registry.codec("jpeg")
    model = fresh_model(codec)
    data = compress(photo, codec, quality=20, model=model).data
    assert restore(data, registry, model).codec_name == "jpeg"
    if "data[:11]" not in wrong:
        plain = compress(photo, codec, quality=20).data
        assert np.array_equal(decompress(plain, registry, no_model).image, codec.decode(plain))
    assert len(capsys.readouterr().err.splitlines()) <= 1


def test_a_sloppy_codec_is_warned_about(
    tmp_path: Path, photo: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PLUGIN.replace("bare", "aab") + "\nBare.probe = lambda self, data: {}['header']\n"
    (tmp_path / "sloppy.py").write_text(source)
    registry = Registry.load([tmp_path / "sloppy.py"])
    plain = compress(photo, registry.codec("jpeg"), quality=20).data
    for _ in range(2):
        decompress(plain, registry, no_model)
    assert capsys.readouterr().err == "vcframe: codec 'aab' failed unexpectedly: KeyError: 'header'\n"

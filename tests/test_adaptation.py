"""Coefficients that the encoder fits to a picture: least squares, what they cost, where they travel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from command_line import fresh_model, ok, refused

from vcframe.codec import Codec, Image
from vcframe.coder import compress, decompress, inspect
from vcframe.images import luma, write_image
from vcframe.metrics import psnr
from vcframe.model import Model, ModelError
from vcframe.networks import build_networks, count_macs
from vcframe.networks.adaptation import MAX_LEVEL, STEP, best_quality_level
from vcframe.networks.small import SmallPostProcessing
from vcframe.networks.tiles import Tiling
from vcframe.registry import Registry
from vcframe.stream import PAYLOAD_BYTES, coefficient_bytes
from vcframe.ways import Way

REGISTRY = Registry.load()
PHOTO = np.ascontiguousarray(skimage.data.astronaut()[40:231, 100:343])


def adapted_model(codec: Codec, scale: int = 1, seed: int = 0, size: float = 3.0) -> Model:
    """A model that brightens every picture a little, with random directions to correct that and more."""
    torch.manual_seed(seed)
    model = fresh_model(codec.name, scale)
    post = model.networks[scale].post
    assert isinstance(post, SmallPostProcessing)
    with torch.no_grad():
        post.make_adaptation().directions *= size
        post.trunk.tail.bias += 0.3  # type: ignore[operator]
    return model


def post_of(model: Model, scale: int = 1) -> SmallPostProcessing:
    post = model.networks[scale].post
    assert isinstance(post, SmallPostProcessing)
    return post


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_coefficients_are_near_the_least_squares_solution(scale: int) -> None:
    model, unit = adapted_model(REGISTRY.codec("jpeg"), scale), 0.2
    decoded = REGISTRY.codec("jpeg").roundtrip(PHOTO[:64:scale, :96:scale].copy(), 20)[0]
    post, unit_B = post_of(model, scale), torch.tensor([unit])
    assert post.adaptation is not None
    d, x = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for p in (decoded, PHOTO[:64, :96]))
    area = (slice(0, d.shape[-2]), slice(0, d.shape[-1]))
    with torch.no_grad():
        (moments,) = post.moments(post.features(d, unit_B), d, unit_B, x, area)
        plain = post(d, unit_B, (64, 96))
        # One column for each direction: what it adds to the picture at a coefficient of 1.
        ones = torch.eye(post.adaptation.num_directions)
        columns = [(post(d, unit_B, (64, 96), one[None]) - plain).flatten() for one in ones]
    matrix, error = torch.stack(columns, 1).double().numpy(), (x - plain).flatten().double().numpy()
    assert moments.unclipped_squared_error == pytest.approx(error @ error, rel=1e-5)
    for levels, left in moments.fits(post.adaptation.directions, [4, 64]):
        part = matrix[:, : len(levels)]
        assert left == pytest.approx(float(((error - part @ levels) ** 2).sum()), rel=1e-4)
        best = np.linalg.lstsq(part, error, rcond=None)[0]
        rounded = np.clip(np.round(best), -MAX_LEVEL, MAX_LEVEL)
        assert left <= ((error - part @ rounded) ** 2).sum() * 1.0001
        assert left >= ((error - part @ best) ** 2).sum() * 0.9999
        assert max(map(abs, levels)) <= MAX_LEVEL


def test_moments_of_tiles_add_up_to_those_of_the_picture() -> None:
    codec = REGISTRY.codec("jpeg")
    model = adapted_model(codec)
    decoded = codec.roundtrip(PHOTO, 20)[0]
    whole = model.adapt(PHOTO, decoded, 51, 1, 4000)
    post = post_of(model)
    post.tiling = Tiling(post.tiling.grid, post.tiling.reach, 64)
    assert whole[1]
    assert model.adapt(PHOTO, decoded, 51, 1, 4000) == whole


@pytest.mark.parametrize("name", ["jpeg", "webp", "jpeg2000", "hevc", "jpegxl"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_an_adapted_file_restores_better_with_the_bytes_counted(name: str, scale: int) -> None:
    codec = REGISTRY.codec(name)
    model = adapted_model(codec, scale)
    plain = Way(PHOTO, codec, model, scale).compress(codec.quality_scale.native(0.2))
    adapted = plain.adapted
    assert adapted.payload is not None
    number = len(adapted.payload.coefficients)
    assert number % STEP == 0 < number
    # WebP pads the chunk of one of the two, HEVC escapes zeros.
    assert -1 <= adapted.num_bytes - plain.num_bytes - coefficient_bytes(number) <= 2
    assert adapted.num_bytes <= plain.num_bytes + adapted.way.reserve_bytes
    assert adapted.psnr_db > plain.psnr_db + 0.02
    assert adapted.adapted is adapted
    restored = decompress(adapted.data, REGISTRY, lambda *_: model)
    assert psnr(restored.image, PHOTO) == adapted.psnr_db
    contents = inspect(adapted.data, REGISTRY)
    assert contents.payload == adapted.payload


@pytest.mark.parametrize(
    ("best", "start", "stop"), [(100, 100, 100), (160, 100, 160), (31, 100, 40), (255, 180, 240), (0, 7, 7)]
)
def test_the_quality_level_goes_where_the_error_falls(best: int, start: int, stop: int) -> None:
    tried: list[int] = []

    def log_error(level: int) -> float:
        tried.append(level)
        return (level - best) ** 2 / 1000

    assert best_quality_level(log_error, start) == stop
    assert len(tried) == len(set(tried))
    assert all(0 <= level <= 255 for level in tried)


@pytest.mark.parametrize("tile_side", [768, 64])
def test_a_picture_is_restored_at_the_quality_level_that_suits_it(tile_side: int) -> None:
    """A model that brightens pictures the more, the lower the level: one that was darkened wants a lower."""
    codec = REGISTRY.codec("jpeg")
    model = fresh_model("jpeg", 1)
    post = post_of(model)
    with torch.no_grad():
        post.make_adaptation().directions *= 0
        post.trunk.tail.bias += 0.5  # type: ignore[operator]
    post.tiling = Tiling(post.tiling.grid, post.tiling.reach, tile_side)
    way = Way(PHOTO, codec, model, 1)
    coded = way.code(PHOTO // 8 * 7, 40)
    assert coded.payload is not None
    assert coded.adapted.payload is not None
    assert coded.adapted.payload.level < coded.payload.level
    assert coded.adapted.num_bytes == coded.num_bytes
    assert coded.adapted.psnr_db > coded.psnr_db + 1
    assert (
        psnr(decompress(coded.adapted.data, REGISTRY, lambda *_: model).image, PHOTO) == coded.adapted.psnr_db
    )


def test_a_file_is_decoded_once_for_its_coefficients_and_its_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = REGISTRY.codec("jpeg")
    coded, calls = Way(PHOTO, codec, adapted_model(codec), 1).compress(20), []
    decode = type(codec).decode
    monkeypatch.setattr(type(codec), "decode", lambda self, data: calls.append(data) or decode(self, data))
    assert coded.adapted is not coded
    assert coded.adapted.psnr_db > coded.psnr_db
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["jpeg", "webp", "jpeg2000", "hevc"])
def test_a_target_in_bytes_is_kept_with_coefficients(name: str) -> None:
    codec = REGISTRY.codec(name)
    model = adapted_model(codec)
    for num_bytes in (1500, 3001):
        coded = compress(PHOTO, codec, model=model, scale=1, target_bytes=num_bytes)
        assert coded.payload is not None
        assert coded.payload.coefficients
        assert coded.num_bytes <= num_bytes


def test_a_target_in_decibels_counts_what_coefficients_give() -> None:
    codec = REGISTRY.codec("jpeg")
    model = adapted_model(codec)
    coded = compress(PHOTO, codec, model=model, scale=1, target_psnr=27.0)
    assert coded.psnr_db >= 27
    below = Way(PHOTO, codec, model, 1).compress(coded.quality - 1).adapted
    assert below.psnr_db < 27
    without = Way(PHOTO, codec, model, 1).compress(coded.quality)
    assert without.psnr_db < coded.psnr_db


@pytest.mark.parametrize(
    "picture",
    [
        np.full((40, 56, 3), 255, np.uint8),
        np.full((1, 1, 3), 7, np.uint8),
        np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8),
        np.repeat(np.kron(np.eye(6, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))[..., None], 3, 2),
        np.kron(np.eye(6, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8)),
    ],
    ids=["white", "one pixel", "noise", "stairs", "grey stairs"],
)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_no_picture_is_worse_for_its_coefficients(picture: Image, size: float) -> None:
    """Half a grey level of rounding aside: the error that is predicted is an upper bound."""
    codec = REGISTRY.codec("jpeg")
    coded = Way(picture, codec, adapted_model(codec, size=size), 1).compress(30)
    assert coded.adapted.psnr_db >= coded.psnr_db - 0.02


def test_coefficients_that_do_not_pay_are_left_out() -> None:
    codec = REGISTRY.codec("jpeg")
    model = adapted_model(codec)
    with torch.no_grad():
        adaptation = post_of(model).adaptation
        assert adaptation is not None
        adaptation.directions *= 1e-6
    coded = Way(PHOTO, codec, model, 1).compress(30)
    assert coded.adapted is coded
    assert coded.payload is not None
    assert len(codec.extract(coded.data)[1]) == PAYLOAD_BYTES  # type: ignore[index]


def test_grey_pictures_of_a_colour_model_are_fitted_as_luma() -> None:
    codec = REGISTRY.codec("jpeg")
    model = adapted_model(codec)
    coded = Way(luma(PHOTO), codec, model, 1).compress(20)
    assert coded.adapted.payload is not None
    assert coded.adapted.payload.coefficients
    assert coded.adapted.psnr_db > coded.psnr_db + 0.02
    # What was predicted is what a file restores, within the rounding to whole grey levels.
    post, unit = post_of(model), coded.payload.unit  # type: ignore[union-attr]
    decoded = codec.roundtrip(luma(PHOTO), 20)[0]
    d = torch.from_numpy(decoded.copy())[None, None].repeat(1, 3, 1, 1) / 255
    x, unit_B = torch.from_numpy(luma(PHOTO).copy())[None, None] / 255, torch.tensor([unit])
    height, width = decoded.shape
    assert post.adaptation is not None
    with torch.no_grad():
        area = (slice(0, height + height % 2), slice(0, width + width % 2))
        (moments,) = post.moments(post.features(d, unit_B), d, unit_B, x, area)
    fit = next(moments.fits(post.adaptation.directions, [len(coded.adapted.payload.coefficients)]))
    assert fit[0] == coded.adapted.payload.coefficients
    predicted = -10 * np.log10(fit[1] / (height // 2 * 2 * (width // 2 * 2)))
    assert coded.adapted.psnr_db == pytest.approx(predicted, abs=0.1)


def test_the_bytes_do_not_depend_on_the_threads() -> None:
    codec = REGISTRY.codec("jpeg")
    before, files = torch.get_num_threads(), set()
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            files.add(compress(PHOTO, codec, model=adapted_model(codec), scale=1, quality=20).data)
    finally:
        torch.set_num_threads(before)
    assert len(files) == 1


def test_model_files_keep_the_adaptation(tmp_path: Path) -> None:
    codec = REGISTRY.codec("jpeg")
    model = adapted_model(codec)
    model.save(tmp_path / "adapted.safetensors")
    loaded = Model.load(tmp_path / "adapted.safetensors")
    assert loaded.id == model.id != fresh_model("jpeg", 1).id
    assert loaded.num_directions(1) == 64
    assert fresh_model("jpeg", 1).num_directions(1) == 0
    coded = Way(PHOTO, codec, loaded, 1).compress(20).adapted
    assert psnr(decompress(coded.data, REGISTRY, lambda *_: loaded).image, PHOTO) == coded.psnr_db


def test_a_model_without_directions_refuses_coefficients() -> None:
    with pytest.raises(ModelError, match="0 directions, the file 4 coefficients"):
        fresh_model("jpeg", 1).restore(PHOTO, 0.2, 1, PHOTO.shape[:2], (1, 2, 3, 4))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_adapted_decoder_stays_within_its_budget(scale: int) -> None:
    post = build_networks("small", scale, 8).post
    assert isinstance(post, SmallPostProcessing)
    adaptation = post.make_adaptation()
    coded, unit_B = torch.zeros(1, 3, 64 // scale, 64 // scale), torch.tensor([0.5])
    convolutions = count_macs(post, coded, unit_B, (64, 64), torch.ones(1, 64))
    mixing = adaptation.directions[0].numel() * (64 // 2) ** 2
    assert (convolutions + mixing) / 64**2 <= 30_000


def test_info_counts_the_coefficients(tmp_path: Path) -> None:
    codec = REGISTRY.codec("jpeg")
    coded = Way(PHOTO, codec, adapted_model(codec), 1).compress(20).adapted
    assert coded.payload is not None
    (tmp_path / "photo.jpg").write_bytes(coded.data)
    assert f"coefficients  {len(coded.payload.coefficients)}" in ok("info", tmp_path / "photo.jpg").stdout


def test_the_schedule_needs_a_model_to_start_from(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", PHOTO)
    arguments = ("train", "--codec", "jpeg", "--schedule", "adaptation", "--steps", 5, "--data", tmp_path)
    assert "start from one" in refused(*arguments, "--out", tmp_path / "run")

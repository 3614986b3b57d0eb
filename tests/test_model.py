"""Model files: round trip, identity of the weights, damage, look-up, grey and colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from command_line import fresh_model
from safetensors import safe_open
from safetensors.torch import save_file

from vcframe.codec import UsageError
from vcframe.images import luma
from vcframe.model import Card, Model, ModelError, find_model, list_models
from vcframe.networks import PlainDescription, build_networks
from vcframe.networks.small import SmallDescription
from vcframe.networks.tiles import Tiling
from vcframe.registry import Registry

REGISTRY = Registry.load()


def make_model(codec_name: str = "jpeg", scale: int = 2, channels: int = 3, **options: object) -> Model:
    """An untrained model whose last layers are not zero, so that it does something."""
    codec = REGISTRY.codec(codec_name, **options)
    card = Card(
        codec=codec.config(),
        codec_version="test",
        preset="small",
        block=codec.traits.block,
        channels=channels,  # type: ignore[arg-type]
        training={scale: {}},
        vcframe_version="test",
    )
    networks = build_networks("small", scale, codec.traits.block, channels)
    with torch.no_grad():
        for network in (networks.description, networks.post):
            network.trunk.tail.weight.normal_(std=0.01)  # type: ignore[union-attr,operator]
    return Model(card, {scale: networks})


def test_a_saved_model_does_the_same_when_loaded(tmp_path: Path) -> None:
    model = make_model()
    model.save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors")
    assert loaded.id == model.id
    assert loaded.card == model.card
    loaded.save(tmp_path / "again.safetensors")
    assert Model.load(tmp_path / "again.safetensors").id == model.id
    picture = skimage.data.chelsea()[:61, :83].copy()
    description = model.describe(picture, 0.3, 2)
    # Half precision on disk: at most one grey level away.
    assert np.abs(description.astype(int) - loaded.describe(picture, 0.3, 2)).max() <= 1
    restored = model.restore(description, 0.3, 2, (61, 83))
    assert np.abs(restored.astype(int) - loaded.restore(description, 0.3, 2, (61, 83))).max() <= 1


def test_joined_models_do_what_each_did(tmp_path: Path) -> None:
    parts = {scale: make_model(scale=scale) for scale in (2, 1)}
    Model.joined(list(parts.values())).save(tmp_path / "both.safetensors")
    both = Model.load(tmp_path / "both.safetensors")
    assert both.card.scales == [1, 2]
    assert both.id not in [part.id for part in parts.values()]
    picture = skimage.data.chelsea()[:40, :33].copy()
    for scale, part in parts.items():
        description = part.describe(picture, 0.3, scale)
        assert np.abs(description.astype(int) - both.describe(picture, 0.3, scale)).max() <= 1


@pytest.mark.parametrize("scale", [1, 2])
def test_a_description_network_that_adds_nothing_is_not_stored(tmp_path: Path, scale: int) -> None:
    idle = fresh_model("jpeg", scale)
    idle.save(tmp_path / "idle.safetensors")
    Model.joined([idle]).save(tmp_path / "small.safetensors")
    loaded = Model.load(tmp_path / "small.safetensors")
    sizes = [(tmp_path / name).stat().st_size for name in ("small.safetensors", "idle.safetensors")]
    assert sizes[0] < 0.6 * sizes[1]
    assert isinstance(loaded.networks[scale].description, PlainDescription)
    assert loaded.id == Model.joined([idle]).id == Model.joined([loaded]).id != idle.id
    loaded.networks[scale].description.tiling = Tiling(1, 4, 32)
    picture = skimage.data.chelsea()[:81, :133].copy()
    assert np.array_equal(loaded.describe(picture, 0.3, scale), idle.describe(picture, 0.3, scale))
    with torch.no_grad():
        idle.networks[scale].description.trunk.tail.bias[0] = 0.01  # type: ignore[union-attr,index,operator]
    assert isinstance(Model.joined([idle]).networks[scale].description, SmallDescription)


def test_models_that_do_not_fit_are_not_joined() -> None:
    with pytest.raises(UsageError, match="scale 2 is in two"):
        Model.joined([make_model(), make_model()])
    with pytest.raises(UsageError, match="different codec"):
        Model.joined([make_model(scale=1), make_model("webp")])
    with pytest.raises(UsageError, match="different channels"):
        Model.joined([make_model(scale=1), make_model(channels=1)])


def test_other_weights_have_another_id() -> None:
    model = make_model()
    before = model.id
    with torch.no_grad():
        model.networks[2].post.trunk.tail.bias[0] += 0.5  # type: ignore[union-attr,index,operator]
    assert model.id != before


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (9, 14), (40, 33)])
def test_sizes_and_kinds_are_kept(scale: int, size: tuple[int, int]) -> None:
    model = make_model(scale=scale)
    picture = skimage.data.chelsea()[: size[0], : size[1]].copy()
    for image in (picture, luma(picture)):
        description = model.describe(image, 0.5, scale)
        assert description.shape == (-(-size[0] // scale), -(-size[1] // scale), *image.shape[2:])
        assert model.restore(description, 0.5, scale, size).shape == image.shape


def test_a_grey_model_refuses_colour_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="grey pictures only"):
        make_model(channels=1).describe(skimage.data.chelsea(), 0.5, 2)


def test_a_changed_byte_in_the_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make_model().save(path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        Model.load(path)


def test_foreign_and_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    foreign, broken = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="no card"):
        Model.load(foreign)
    with pytest.raises(ModelError, match="not a readable model file"):
        Model.load(broken)
    with pytest.raises(ModelError, match="not a readable model file"):
        Model.load(tmp_path / "missing.safetensors")


def test_a_card_is_believed_only_where_the_weights_fit(tmp_path: Path) -> None:
    """Built as its card says, the first of these would take 3.5 gigabytes."""
    path = tmp_path / "m.safetensors"
    good = make_model(scale=1)
    good.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card = json.loads(metadata["vcframe_card"])
    for wrong in ({"block": 1000}, {"channels": 1}, {"training": {"2": {}}}):
        save_file(weights, path, {**metadata, "vcframe_card": json.dumps(card | wrong)})
        with pytest.raises(ModelError, match="weights do not fit"):
            Model.load(path)
    for text in (json.dumps(card | {"block": 10**12}), "[" * 100_000):
        save_file(weights, path, {**metadata, "vcframe_card": text})
        with pytest.raises(ModelError, match="unknown model format"):
            Model.load(path)
    # The same bytes as whole numbers have the same digest.
    save_file({name: value.view(torch.int16) for name, value in weights.items()}, path, metadata)
    with pytest.raises(ModelError, match="damaged"):
        Model.load(path)
    save_file(weights, path, metadata)
    assert Model.load(path).id == good.id


def test_models_are_found_by_path_id_and_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCFRAME_MODELS", str(tmp_path))
    own = make_model("webp", method=3)
    own.save(tmp_path / "own.safetensors")
    webp = REGISTRY.codec("webp", method=3)
    assert find_model(str(tmp_path / "own.safetensors"), webp).id == own.id
    assert find_model(own.id.upper(), webp).id == own.id
    # The model of exactly these options comes before a shipped one of the same codec.
    assert find_model(None, webp).id == own.id
    assert own.id in {model.id for model in list_models("webp")}
    with pytest.raises(ModelError, match=f"no model file or id 'feedf00d'.*{own.id}"):
        find_model("feedf00d", webp)


def test_a_bad_file_in_the_folder_is_skipped_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VCFRAME_MODELS", str(tmp_path))
    (tmp_path / "a.safetensors").write_bytes(b"not a model")
    good, flipped = make_model("webp", method=1), make_model("webp", method=1)
    flipped.save(tmp_path / "b.safetensors")
    data = bytearray((tmp_path / "b.safetensors").read_bytes())
    data[-100] ^= 1
    (tmp_path / "b.safetensors").write_bytes(data)
    good.save(tmp_path / "c.safetensors")
    assert good.id in {model.id for model in list_models("webp")}
    assert find_model(None, REGISTRY.codec("webp", method=1)).id == good.id
    assert find_model(good.id, None).id == good.id
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "a.safetensors: not a readable model file" in lines[0]
    assert "b.safetensors: the weights do not match" in lines[1]
    with pytest.raises(ModelError, match=r"a\.safetensors: not a readable"):
        find_model(str(tmp_path / "a.safetensors"), None)


def test_a_general_model_is_chosen_before_special_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("vcframe.model.resources.files", lambda package: tmp_path / "shipped")
    monkeypatch.setenv("VCFRAME_MODELS", str(tmp_path))
    codec = REGISTRY.codec("webp", method=6)
    grey, single, general = (
        make_model("webp", channels=1, method=6),
        make_model("webp", method=6),
        make_model("webp"),
    )
    single.card = single.card.model_copy(update={"training": {2: {"quality": 10.0}}})
    general.card = general.card.model_copy(
        update={"codec": {"codec": "webp", "options": {"method": 2}}, "training": {2: {"quality": None}}}
    )
    grey.save(tmp_path / "a.safetensors")
    assert find_model(None, codec).id == grey.id
    single.save(tmp_path / "b.safetensors")
    general.save(tmp_path / "c.safetensors")
    assert find_model(None, codec).id == general.id


def test_every_shipped_model_loads_and_is_small_enough() -> None:
    shipped = {model.card.codec_name: model for model in list_models()}
    assert set(shipped) >= {"jpeg", "jpeg2000", "webp", "hevc"}
    for model in shipped.values():
        assert model.path.stat().st_size <= (1_500_000 if 4 in model.card.scales else 1_000_000)
        assert Model.load(model.path).id == model.id
        assert REGISTRY.codec_from_config(model.card.codec).config() == model.card.codec

"""A virtual codec fitted alone: learns, resumes exactly, keeps its card; and stand-ins from plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from vcframe.codec import UsageError
from vcframe.images import write_image
from vcframe.learning import Interrupted, Progress, TrainConfig, fit, fit_virtual
from vcframe.learning.coded import CodingRoom
from vcframe.learning.engine import Engine
from vcframe.learning.phases import Workshop
from vcframe.learning.sources import open_files
from vcframe.learning.virtual import VirtualPhase, varied_describe
from vcframe.model import ModelError
from vcframe.networks import build_networks
from vcframe.registry import Registry
from vcframe.virtual import VirtualCodec

REGISTRY = Registry.load()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    for k, picture in enumerate((skimage.data.coffee(), skimage.data.chelsea(), skimage.data.astronaut())):
        write_image(folder / f"{k}.png", np.ascontiguousarray(picture[:128, :160]))
    return str(folder)


def config(out: Path, pictures: str, **changes: Any) -> TrainConfig:
    small = {"steps": 6, "batch": 2, "patch": 64, "crop": 64, "pool": 8, "device": "cpu"}
    codec = REGISTRY.codec("jpeg").config()
    values = {"schedule": "virtual", "codec": codec, "data": (pictures,), "out": out, **small, **changes}
    return TrainConfig.checked(**values)


def silent(progress: Progress) -> None:
    pass


def stop_at_three(progress: Progress) -> None:
    if progress.step == 3:
        raise KeyboardInterrupt


def test_a_stopped_fit_continues_to_the_same_file(tmp_path: Path, pictures: str) -> None:
    whole = fit_virtual(config(tmp_path / "whole", pictures), REGISTRY, silent)
    with pytest.raises(Interrupted, match="checkpoint"):
        fit_virtual(config(tmp_path / "parts", pictures), REGISTRY, stop_at_three)
    parts = fit_virtual(config(tmp_path / "parts", pictures), REGISTRY, silent)
    assert whole.report["virtual"] == parts.report["virtual"]

    virtual = VirtualCodec.load(whole.model_path)
    assert virtual.id == whole.report["virtual"]
    assert virtual.card.codec == REGISTRY.codec("jpeg").config()
    assert "libjpeg" in virtual.card.codec_version
    assert virtual.card.training["steps"] == 6
    assert virtual.card.training["data"] == "3 pictures, 1 held out, 0 unreadable"
    assert virtual.card.fidelity == whole.report["fidelity"]
    assert not list(tmp_path.rglob("model.safetensors"))


def test_it_learns_the_bits(tmp_path: Path, pictures: str) -> None:
    short = fit_virtual(config(tmp_path / "short", pictures, steps=5), REGISTRY, silent)
    changes = {"steps": 80, "pool": 128, "learning_rate": 1e-3}
    long = fit_virtual(config(tmp_path / "long", pictures, **changes), REGISTRY, silent)
    before, after = short.report["fidelity"], long.report["fidelity"]
    assert after["bits_net"]["median"] < 0.5 * before["bits_net"]["median"]


def test_a_step_moves_it_towards_the_real_codec(tmp_path: Path, pictures: str) -> None:
    """The same coded crops again and again: error and bits must become predictable."""
    torch.manual_seed(0)
    settings = config(tmp_path, pictures)
    codec, networks = REGISTRY.codec("jpeg"), build_networks("small", 1, 8)
    shop = Workshop(settings, Engine("cpu"), CodingRoom(codec), open_files((pictures,)), networks)
    phase = VirtualPhase(shop)
    losses = [phase.step(0, 1.0).loss for _ in range(40)]
    shop.room.close()
    assert losses[-1] < 0.6 * losses[0]


def test_half_size_descriptions_and_grey(tmp_path: Path, pictures: str) -> None:
    result = fit_virtual(config(tmp_path, pictures, steps=5, scale=2, channels=1), REGISTRY, silent)
    virtual = VirtualCodec.load(result.model_path)
    assert (virtual.card.training["scale"], virtual.card.channels) == (2, 1)
    with torch.no_grad():
        decoded, _ = virtual.network(torch.rand(1, 1, 30, 20), torch.tensor([0.5]))
    assert decoded.shape == (1, 1, 30, 20)


def test_files_that_are_no_virtual_codecs(tmp_path: Path, pictures: str, saved: Path) -> None:
    path = fit_virtual(config(tmp_path, pictures, steps=5), REGISTRY, silent).model_path
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    (tmp_path / "damaged.safetensors").write_bytes(data)
    for name, message in (("damaged.safetensors", "do not match their digest"), ("none", "not a readable")):
        with pytest.raises(ModelError, match=message):
            VirtualCodec.load(tmp_path / name)
    with pytest.raises(ModelError, match="not a virtual codec"):
        VirtualCodec.load(saved / "jpeg.safetensors")


def test_patches_have_no_bits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="patch must be 64"):
        config(tmp_path, "pictures", patch=32)


def test_half_of_the_descriptions_are_varied_lightly_and_alike_every_time() -> None:
    vary = varied_describe(lambda picture, unit: picture)
    crops = [np.ascontiguousarray(skimage.data.coffee()[k : k + 64, :64]) for k in range(60)]
    changes = [vary(crop, 0.5).astype(int) - crop for crop in crops]
    moved = [np.sqrt(np.mean(change**2)) for change in changes if change.any()]
    assert 15 < len(moved) < 45
    assert max(moved) < 12
    assert np.array_equal(vary(crops[0], 0.1), vary(crops[0], 0.9))


def test_training_through_a_stand_in_without_parameters(tmp_path: Path, pictures: str) -> None:
    """Straight-through: the joint phase moves the description network by the coding error alone."""
    plugin = Path(__file__).parents[2] / "benchmarks/virtual_codecs/identity.py"
    if not plugin.exists():
        pytest.skip("benchmarks/ is part of a checkout only")
    sizes = {"batch": 2, "patch": 32, "crop": 64, "joint_batch": 2, "joint_crop": 64, "pool": 8}
    joint = TrainConfig.checked(
        codec=REGISTRY.codec("webp").config(), data=(pictures,), out=tmp_path, steps=10, device="cpu", **sizes
    )
    fit(joint, Registry.load([plugin]), silent)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["networks"]
    assert saved["virtual"] == {}
    assert saved["description"]["trunk.tail.weight"].abs().max() > 0

"""Several scales in one training: shares of the length, one model file, going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from vcframe.images import write_image
from vcframe.learning import Interrupted, Progress, TrainConfig, fit_scales
from vcframe.model import Model
from vcframe.registry import Registry

REGISTRY = Registry.load()


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    for index, picture in enumerate((skimage.data.coffee(), skimage.data.chelsea())):
        write_image(tmp_path / "in" / f"{index}.png", np.ascontiguousarray(picture[:128, :160]))
    return TrainConfig.checked(
        codec=REGISTRY.codec("jpeg").config(),
        data=(str(tmp_path / "in"),),
        out=tmp_path / "run",
        steps=10,
        batch=1,
        patch=32,
        crop=64,
        joint_batch=1,
        joint_crop=64,
        pool=4,
        device="cpu",
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def test_each_scale_gets_its_share_and_one_model_serves_all(config: TrainConfig) -> None:
    seen: list[Progress] = []
    result = fit_scales(config, (1, 2), REGISTRY, seen.append)
    model = Model.load(result.model_path)
    assert result.model_path == config.out / "model.safetensors"
    assert model.card.scales == [1, 2]
    assert [training["steps"] for training in model.card.training.values()] == [5, 5]
    assert result.report["model"] == model.id
    assert json.loads((config.out / "report.json").read_text())["scales"].keys() == {"1", "2"}
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {progress.phase.split()[1] for progress in seen if progress.step} == {"1", "2"}


def test_a_stopped_training_goes_on_with_the_scale_it_was_at(config: TrainConfig) -> None:
    whole = fit_scales(config, (1, 2), REGISTRY, lambda progress: None).model_path.read_bytes()
    again = config.model_copy(update={"out": config.out.with_name("again")})

    def stop(progress: Progress) -> None:
        if progress.phase == "scale 2 joint":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="scale-2"):
        fit_scales(again, (1, 2), REGISTRY, stop)
    taken: list[str] = []
    result = fit_scales(again, (1, 2), REGISTRY, lambda progress: taken.append(progress.phase))
    assert not [phase for phase in taken if phase.startswith("scale 1")]
    assert Model.load(result.model_path).id == Model.load(config.out / "model.safetensors").id
    assert len(result.model_path.read_bytes()) == pytest.approx(len(whole), abs=64)


def test_one_scale_is_an_ordinary_run(config: TrainConfig) -> None:
    result = fit_scales(config, (2,), REGISTRY, lambda progress: None)
    assert Model.load(result.model_path).card.scales == [2]
    assert result.report["steps"] == 10
    assert (config.out / "checkpoint.pt").exists()

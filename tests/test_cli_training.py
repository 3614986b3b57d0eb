"""The command line of training, joining and evaluation: what it is told, prints and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import PIL.Image
import pytest
import skimage.data
from command_line import fresh_model, ok, refused, run

import vcframe.learning
from vcframe.learning import Interrupted, Progress, TrainConfig, TrainResult
from vcframe.model import Model
from vcframe.registry import Registry

pytestmark = pytest.mark.usefixtures("no_shipped_models")

REPORT = {
    "model": "0badcafe",
    "steps": 12,
    "minutes": 0.1,
    "data": "leaves",
    "validation_bd_rate_percent": -3.0,
}


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configurations that `train` hands over, one for each scale, without training."""
    received: list[TrainConfig] = []

    def fit(
        config: TrainConfig,
        scales: Sequence[int],
        registry: Registry,
        on_progress: Callable[[Progress], None],
    ) -> TrainResult:
        received.extend(config.model_copy(update={"scale": scale}) for scale in scales)
        on_progress(Progress("post", 3, 12, 1.0, 3.0, 0.25, "27.31 dB"))
        return TrainResult(config.out / "model.safetensors", REPORT)

    monkeypatch.setattr(vcframe.learning, "fit_scales", fit)
    return received


class TestTraining:
    def test_what_it_is_told(self, configs: list[TrainConfig], tmp_path: Path) -> None:
        out = tmp_path / "run"
        text = ok(
            *("train", "--codec", "webp", "--option", "method=3", "--data", "a", "--data", "b/*.png"),
            *("--scale", 1, "--minutes", 3, "--seed", 5, "--device", "cpu", "--out", out),
        ).stdout
        (config,) = configs
        assert config == TrainConfig.checked(
            codec={"codec": "webp", "options": {"method": 3, "tune": "default", "loop_filter": True}},
            data=("a", "b/*.png"),
            scale=1,
            minutes=3.0,
            seed=5,
            device="cpu",
            out=out,
        )
        first, second = text.splitlines()
        assert first == f"{out / 'model.safetensors'}: model 0badcafe"
        assert second.startswith("scale 1: 12 steps in 0.1 min on leaves, BD-rate -3.0 % against plain")

    def test_the_paper_schedule(self, configs: list[TrainConfig], tmp_path: Path) -> None:
        arguments = ("--schedule", "paper", "--preset", "paper", "-q", 10, "--steps", 50)
        report = json.loads(ok("train", "--codec", "jpeg", "--out", tmp_path, *arguments, "--json").stdout)
        (config,) = configs
        assert (config.schedule, config.preset, config.quality, config.channels) == ("paper", "paper", 10, 1)
        assert (config.steps, config.minutes) == (50, None)
        assert report == {"model_path": str(tmp_path / "model.safetensors"), **REPORT}

    def test_a_length_is_assumed(self, configs: list[TrainConfig], tmp_path: Path) -> None:
        ok("train", "--codec", "jpeg", "--out", tmp_path)
        assert configs[0].minutes == 10
        assert [config.scale for config in configs] == [1, 2]
        assert configs[0].data == ()

    def test_all_are_three_sizes(self, configs: list[TrainConfig], tmp_path: Path) -> None:
        ok("train", "--codec", "jpeg", "--scale", "all", "--out", tmp_path)
        assert [config.scale for config in configs] == [1, 2, 4]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("--minutes 1 --steps 9", "either minutes or steps"),
            ("--schedule paper --preset paper", "the paper preset needs one quality"),
            ("--schedule papr", "schedule"),
            ("--scale 3", "give both, all, 1, 2 or 4"),
            ("--scale all --schedule paper -q 10", "trains one scale"),
            ("--scale 4 --preset paper --schedule paper -q 10", "preset paper has no networks for scale 4"),
            ("--minutes -1", "minutes"),
        ],
    )
    def test_what_it_refuses(
        self, arguments: str, message: str, configs: list[TrainConfig], tmp_path: Path
    ) -> None:
        assert message in refused("train", "--codec", "jpeg", "--out", tmp_path, *arguments.split())
        assert configs == []

    @pytest.mark.parametrize("verb", ["train", "demo"])
    def test_ctrl_c_says_where_the_checkpoint_is(
        self, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*arguments: Any) -> NoReturn:
            raise Interrupted("stopped; a checkpoint is in runs/x")

        monkeypatch.setattr(vcframe.learning, "fit_scales", interrupt)
        monkeypatch.setattr("vcframe.demo.fit", interrupt)
        codec = ("--codec", "jpeg") if verb == "train" else ()
        result = run(verb, *codec, "--out", tmp_path / "new")
        assert result.exit_code == 130
        assert result.output == "vcframe: error: stopped; a checkpoint is in runs/x\n"


class TestJoining:
    def test_scales_become_one_file(self, saved: Path, tmp_path: Path) -> None:
        one, both = tmp_path / "one.safetensors", tmp_path / "both.safetensors"
        fresh_model("jpeg", scale=1).save(one)
        two = saved / "jpeg.safetensors"
        text = ok("join", both, one, two).stdout
        model = Model.load(both)
        assert text == f"{both}: model {model.id}, scales 1 and 2\n"
        assert model.card.scales == [1, 2]
        assert "exists; give --force" in refused("join", both, one, two)
        assert "scale 2 is in two" in refused("join", both, two, two, "--force")
        assert "not a readable model file" in refused("join", tmp_path / "new", tmp_path / "none")
        assert not (tmp_path / "new").exists()


class TestEvaluation:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for name, top in (("a.png", 0), ("b.png", 150)):
            PIL.Image.fromarray(skimage.data.chelsea()[top : top + 96, 100:196]).save(folder / name)
        return folder

    def test_table_and_file(self, folder: Path, saved: Path, tmp_path: Path) -> None:
        out = tmp_path / "result.json"
        base = ("evaluate", "--codec", "jpeg", "--images", folder, "--model", saved / "jpeg.safetensors")
        arguments = (*base, "--plain-option", "progressive=never", "--max-bpp", 1.5, "--out", out)
        text = ok(*arguments).stdout
        for cell in ("a.png", "b.png", "96x96", "BD-rate: mean", "2 of 2 pictures"):
            assert cell in text
        written = json.loads(out.read_text())
        assert written["ends_bpp"] == [1.5]
        assert written["plain"]["options"]["progressive"] == "never"
        assert written["codec"]["options"]["progressive"] == "auto"
        assert f"mean {written['summary']['mean']:+.2f} %" in text
        assert "exists; give --force" in refused(*arguments)

    def test_the_model_codes_with_the_options_it_was_trained_with(self, folder: Path, tmp_path: Path) -> None:
        flat = {"flat": 0.75, "dead_zone": 0.7}
        fresh_model("jpeg", scale=1, **flat).save(tmp_path / "flat.safetensors")
        base = ("evaluate", "--codec", "jpeg", "--images", folder / "a.png", "--max-bpp", 1.5, "--json")
        model = ("--model", tmp_path / "flat.safetensors")
        result = json.loads(ok(*base, *model, "--option", "progressive=never").stdout)
        plain = {"progressive": "never", "subsampling": "4:2:0", "flat": 0.0, "dead_zone": 0.5}
        assert result["plain"]["options"] == plain
        assert result["codec"]["options"] == plain | flat
        assert result["summary"]["mean"] < -10
        assert "trained for jpeg, not webp" in refused(*base[:2], "webp", *base[3:], *model)

    def test_json_at_one_quality(self, folder: Path, saved: Path) -> None:
        base = ("evaluate", "--codec", "jpeg", "--images", folder / "a.png", "--model")
        arguments = (*base, saved / "jpeg.safetensors", "-q", 40, "--max-bpp", 1.0, "--json")
        (row,) = json.loads(ok(*arguments).stdout)["images"]
        assert [point["quality"] for point in row["vcframe"]] == [40]
        assert len(row["plain"]) > 3

    def test_what_it_refuses(self, folder: Path, saved: Path, tmp_path: Path) -> None:
        base = ("evaluate", "--codec", "jpeg", "--images")
        (folder / "none.png").write_bytes(b"no picture")
        single = ("--model", saved / "jpeg.safetensors")
        assert "none of 1 pictures could be measured" in refused(*base, folder / "none.png", *single)
        assert "no pictures in" in refused(*base, tmp_path / "none")
        assert "no model for codec jpeg" in refused(*base, folder)
        assert "does not exist" in refused(*base, folder, "--out", tmp_path / "none" / "x.json")


def test_the_progress_goes_to_standard_error_as_lines(
    configs: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcframe.cli.common.ProgressBar.LINE_EVERY_S", 0.0)
    result = ok("train", "--codec", "jpeg", "--out", tmp_path)
    assert result.stderr == "vcframe: post: 25 %, left 0:03  27.31 dB\n"

"""The demonstration with a model that has not been trained: everything but the minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vcframe import Image, UsageError
from vcframe.cli import app
from vcframe.demo import Demo, DemoRow, photograph, run_demo
from vcframe.images import read_image
from vcframe.learning import Progress, TrainConfig, TrainResult
from vcframe.metrics import psnr, ssim
from vcframe.model import Card, Model
from vcframe.networks import build_networks
from vcframe.registry import Registry


def no_training(
    config: TrainConfig, registry: Registry, on_progress: Callable[[Progress], None]
) -> TrainResult:
    """Leave plain bicubic resampling, which is what training starts from."""
    codec = registry.codec_from_config(config.codec)
    torch.manual_seed(0)
    card = Card(
        codec=config.codec,
        codec_version=codec.version(),
        preset=config.preset,
        block=codec.traits.block,
        channels=3,
        training={config.scale: {}},
        vcframe_version="any",
    )
    config.out.mkdir(parents=True)
    path = config.out / "model.safetensors"
    networks = build_networks(config.preset, config.scale, codec.traits.block)
    Model(card, {config.scale: networks}).save(path)
    return TrainResult(path, {"steps": 9, "minutes": config.minutes, "data": "dead leaves"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new"


@pytest.fixture(scope="module")
def demo(folder: Path) -> Demo:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vcframe.demo.fit", no_training)
        return run_demo(Registry.load(), folder, 0.5, lambda progress: None)


def test_the_photograph_ships_with_scikit_image() -> None:
    assert photograph().shape == (512, 512, 3)


def test_every_file_is_there(demo: Demo, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.png",
        "original.png",
        "plain.webp",
        "restored.png",
        "training",
        "vcframe.webp",
    ]
    assert np.array_equal(read_image(folder / "original.png"), photograph())


def test_the_plain_file_is_the_smallest_that_webp_has(demo: Demo, folder: Path) -> None:
    codec = Registry.load().codec("webp")
    data = (folder / "plain.webp").read_bytes()
    assert data == codec.encode(photograph(), 0)
    assert len(data) < len(codec.encode(photograph(), 1))


def test_vcframe_is_held_to_the_same_size(demo: Demo) -> None:
    _, plain, ours = demo.rows
    assert 0.9 * plain.num_bytes < ours.num_bytes <= plain.num_bytes


def test_the_figures_are_those_of_the_files(demo: Demo, folder: Path) -> None:
    original, plain, ours = demo.rows
    photo = photograph()
    assert (original.psnr_db, original.ssim, original.distortion) == (100.0, 1.0, "lossless")
    shown = cv2.cvtColor(cv2.imread(str(folder / "plain.webp")), cv2.COLOR_BGR2RGB)
    assert (plain.psnr_db, plain.ssim) == (psnr(photo, shown), ssim(photo, shown))
    restored = read_image(folder / "restored.png")
    assert (ours.psnr_db, ours.ssim) == (psnr(photo, restored), ssim(photo, restored))
    for row in demo.rows:
        assert row.num_bytes == row.file.stat().st_size
        assert row.bpp == 8 * row.num_bytes / 512**2
    # Half size and bicubic enlargement alone beat WebP where it is at its end.
    assert ours.psnr_db > plain.psnr_db


def test_the_vcframe_file_shows_the_small_picture(demo: Demo, folder: Path) -> None:
    assert cv2.imread(str(folder / "vcframe.webp")).shape == (256, 256, 3)


def test_the_comparison_shows_the_three_side_by_side(demo: Demo, folder: Path) -> None:
    drawn = read_image(folder / "comparison.png")
    for index, row in enumerate(demo.rows):
        left = 12 + index * 524
        assert np.array_equal(drawn[12:524, left : left + 512], row.image)
    # The captions: dark letters on white below the panels.
    assert drawn[-60:].min() < 50


def test_the_caption_names_the_figures() -> None:
    blank: Image = np.zeros((1, 1, 3), np.uint8)
    row = DemoRow("vcframe", Path("x"), 4321, 0.1319, 27.456, 0.81234, blank)
    assert row.caption == "vcframe: 4,321 bytes\n0.132 bpp, 27.46 dB, SSIM 0.8123"


def test_the_verb_prints_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcframe.demo.fit", no_training)
    out = tmp_path / "demo"
    result = CliRunner().invoke(app, ["demo", "--out", str(out), "--minutes", "0.5"])
    assert result.exit_code == 0, result.output
    for cell in (
        "Plain WebP",
        "vcframe",
        f"{(out / 'vcframe.webp').stat().st_size:,}",
        "dB",
        "comparison.png",
    ):
        assert cell in result.stdout
    assert "9 steps in 0.5 min on dead leaves" in result.stdout


def test_the_verb_prints_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcframe.demo.fit", no_training)
    out = tmp_path / "demo"
    result = CliRunner().invoke(app, ["demo", "--out", str(out), "--minutes", "0.5", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["num_bytes"] for row in report["files"]] == [
        (out / name).stat().st_size for name in ("original.png", "plain.webp", "vcframe.webp")
    ]
    assert report["comparison"] == str(out / "comparison.png")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_left_alone(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "original.png").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder nor one of an earlier demo"):
        run_demo(Registry.load(), out, 0.5, lambda progress: None)

"""`vcframe virtual fit` and `virtual report`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from benchmark_scripts import FOLDER
from command_line import ok, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(2):
        PIL.Image.fromarray(skimage.data.chelsea()[60 * k : 60 * k + 96, 100:196]).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "virtual"
    text = ok("virtual", "fit", "--codec", "jpeg", "--data", folder, "--steps", 5, "--out", out).stdout
    path = out / "virtual.safetensors"
    assert text.startswith(f"{path}: virtual codec ")
    assert "on held-out pictures" in text
    return path


def test_report_beside_two_stand_ins(fitted: Path, folder: Path, tmp_path: Path) -> None:
    files = [FOLDER / f"virtual_codecs/{name}.py" for name in ("identity", "analytic_jpeg")]
    if not files[0].exists():
        pytest.skip("benchmarks/ is part of a checkout only")
    plugins = [word for file in files for word in ("--plugin", file)]
    out = tmp_path / "report.json"
    base = ("virtual", "report", fitted, "--images", folder, "--side", 64)
    text = ok(*plugins, *base, "-q", 13, "-q", 70, "--out", out).stdout
    for cell in ("fitted", "identity", "analytic_jpeg", "2 pictures, 2 qualities", "n/a"):
        assert cell in text
    report = json.loads(out.read_text())
    assert report["qualities"] == [13, 70]
    assert [row["height"] for row in report["pictures"]] == [64, 64]
    assert report["fidelity"]["identity"]["pixel"] == 1
    assert report["fidelity"]["analytic_jpeg"]["pixel"] < 0.3
    assert report["fidelity"]["analytic_jpeg"]["rank"] > 0.9
    assert "exists; give --force" in refused(*base, "--out", out)


def test_report_without_plugins_has_the_fitted_one_alone(fitted: Path, folder: Path) -> None:
    report = json.loads(
        ok("virtual", "report", fitted, "--images", folder / "0.png", "-q", 20, "--json").stdout
    )
    assert list(report["fidelity"]) == ["fitted"]
    assert list(report["fidelity"]["fitted"]["pixel_by_quality"]) == ["20"]
    assert np.isfinite(report["fidelity"]["fitted"]["bits_net"]["p90"])


def test_what_it_refuses(fitted: Path, folder: Path, saved: Path, tmp_path: Path) -> None:
    base = ("virtual", "report")
    assert "not a virtual codec" in refused(*base, saved / "jpeg.safetensors", "--images", folder)
    assert "not a readable" in refused(*base, tmp_path / "none", "--images", folder)
    assert "no pictures in" in refused(*base, fitted, "--images", tmp_path / "none")
    assert "outside 1..95" in refused(*base, fitted, "--images", folder, "-q", 99)
    assert "vcframe virtual fit does that" in refused(
        "train", "--codec", "jpeg", "--schedule", "virtual", "--out", tmp_path / "x"
    )
    assert "scale" in refused("virtual", "fit", "--codec", "jpeg", "--scale", 3, "--out", tmp_path / "x")

"""The wheel and the example plugin in an environment of their own: checked, trained and put to use.

Nothing of the checkout is in it. The libraries that both need are those of the environment of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import vcframe
from vcframe import Image

ROOT = Path(vcframe.__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "vcframe", "plugins", "benchmarks/suites")


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path) -> Path:
    """Build both wheels from copies of the sources and install them; returns the folder of the programs."""
    for name in SOURCES:
        source, copy = ROOT / name, folder / "sources" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    both = ("sources/", "sources/plugins/example/")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", *both, cwd=folder)
    venv.create(folder / "env", symlinks=True)
    programs = folder / "env" / "bin"
    target = ("--python", programs / "python", "install", "--no-deps", "--no-index")
    run(*pip, *target, *(folder / "wheels").iterdir(), cwd=folder)
    # Only now: pip would find there what it is about to install.
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return programs


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")
def test_the_example_is_installed_checked_trained_and_used(tmp_path: Path, photo: Image) -> None:
    programs = install(tmp_path)

    def vcframe_(*arguments: object) -> str:
        return run(programs / "vcframe", *arguments, cwd=tmp_path)

    where = run(programs / "python", "-c", "import vcframe; print(vcframe.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    (plugin,) = [row for row in json.loads(vcframe_("plugins", "--json")) if row["name"] == "example"]
    assert (plugin["distribution"], plugin["codecs"]) == ("vcframe-example", ["example"])

    assert {row["status"] for row in json.loads(vcframe_("check", "example", "--json"))} == {"passed"}
    tests = tmp_path / "sources/plugins/example/tests"
    assert "26 passed" in run(
        programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=tests
    )

    (tmp_path / "pictures").mkdir()
    for name, picture in (("photo", photo), ("pictures/a", photo), ("pictures/b", photo[:, ::-1])):
        PIL.Image.fromarray(picture).save(tmp_path / f"{name}.png")
    length = ("--steps", 5, "--scale", 2, "--device", "cpu")
    vcframe_("train", "--codec", "example", "--data", "pictures", "--out", "run", *length)
    model = ("--model", "run/model.safetensors")
    quality = ("-q", 22, "--scale", 2)
    vcframe_("compress", "photo.png", "photo.example", "--codec", "example", *quality, *model)
    vcframe_("decompress", "photo.example", "restored.png", *model)
    restored = np.asarray(PIL.Image.open(tmp_path / "restored.png"))
    assert restored.shape == photo.shape
    assert np.abs(restored.astype(float) - photo).mean() < 20
    assert (tmp_path / "photo.example").stat().st_size < photo.size / 20

"""Killed processes and full disks: no half-written file, no lost one, one clear line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from benchmark_scripts import load_script

from vcframe import ImageError
from vcframe.images import write_bytes

COMMAND = [sys.executable, "-m", "vcframe"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    PIL.Image.fromarray(np.ascontiguousarray(skimage.data.chelsea()[:96, :128])).save(path)
    return path


def on_a_full_disk(room_bytes: int, *arguments: object) -> str:
    """Run the command where no file may grow beyond `room_bytes`; its standard error."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes)),
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_full_disk_is_one_line_and_leaves_the_old_file(picture: Path, tmp_path: Path) -> None:
    plain = ("--codec", "jpeg", "-q", 30, "--plain", "--force")
    target = tmp_path / "photo.jpg"
    target.write_bytes(b"old")
    line = on_a_full_disk(100, "compress", picture, target, *plain)
    assert line == f"vcframe: error: cannot write {target}: File too large\n"
    restored = tmp_path / "restored.png"
    restored.write_bytes(b"old")
    line = on_a_full_disk(100, "decompress", picture.parent / "none.jpg", restored, "--force")
    assert "cannot be read" in line
    subprocess.run([*COMMAND, "compress", picture, tmp_path / "good.jpg", *map(str, plain)], check=True)
    line = on_a_full_disk(100, "decompress", tmp_path / "good.jpg", restored, "--force")
    assert line.splitlines()[-1] == f"vcframe: error: cannot write {restored}: File too large"
    assert target.read_bytes() == restored.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.jpg", "photo.jpg", "restored.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
def test_no_space_left_is_named() -> None:
    with pytest.raises(ImageError, match="cannot write /dev/full: No space left on device"):
        write_bytes(Path("/dev/full"), b"x")


def test_killed_runs_lose_nothing(tmp_path: Path) -> None:
    """A chunk of benchmarks/kill.py, which says what it checks."""
    script = load_script("kill")
    assert script.main(["--num", "1", "--folder", str(tmp_path)]) == 0

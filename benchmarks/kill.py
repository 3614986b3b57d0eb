"""Kill `compress`, `train` and `bench` at random moments, run them again, compare with runs left in peace.

python benchmarks/kill.py --num 50 --out benchmarks/results/kill.json

After each SIGKILL, which no program can answer: a file under its final name is whole, old or new; a
checkpoint is still there, and can be read. The rerun ends as the undisturbed run did: `compress` with the
same bytes, `train` with the same weights, `bench` with the same rows, each task once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vcframe import __version__
from vcframe.images import write_bytes, write_image
from vcframe.model import Model

TRAIN = """
import sys
from vcframe.learning import TrainConfig, fit, loop
from vcframe.registry import Registry
loop.CHECKPOINT_EVERY_S = 0.0  # after every step, so that most kills find one to continue from
config = TrainConfig.model_validate_json(sys.argv[1])
fit(config, Registry.load(), lambda progress: None)
"""

SUITE = """
title = "Two pictures, two codecs"
images = [{{ set = "mine", folder = "set", files = {{ {files} }} }}]
methods = ["plain"]
qualities = 12
timing = false
[codecs]
jpeg = {{}}
webp = {{}}
"""


class Lost(Exception):
    """What a kill must not do, and did."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="Kill compress, train and bench, and compare.")
    parser.add_argument("--num", type=int, default=50, metavar="N", help="kills of each")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to work; default: the system's")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        for trial in (kill_compress, kill_train, kill_bench):
            try:
                row = trial(folder, given.num, random.Random(given.seed))
            except Lost as lost:
                row = {"what": trial.__name__, "lost": str(lost)}
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()))
    if given.out:
        content = {"schema": "vcframe-kill", "seed": given.seed, "vcframe": __version__, "rows": rows}
        write_bytes(given.out, json.dumps(content, indent=1).encode() + b"\n")
    return int(any("lost" in row for row in rows))


def kill_compress(folder: Path, num: int, chance: random.Random) -> dict[str, str | int]:
    """The target holds the old file or the new one, whole, after every kill; run again, the new one."""
    source, target = folder / "picture.png", folder / "photo.webp"
    write_image(source, _picture(0, 192, 256))
    base = [sys.executable, "-m", "vcframe", "compress", str(source), str(target), "--codec", "webp"]
    command = [*base, "-q", "30", "--force"]
    target.write_bytes(b"old")
    seconds = _undisturbed(command)
    new = target.read_bytes()
    num_old = 0
    for _ in range(num):
        target.write_bytes(b"old")
        _kill(command, chance.uniform(0, 1.1 * seconds))
        found = target.read_bytes()
        if found not in (b"old", new):
            raise Lost(f"a half-written {target.name} of {len(found)} bytes")
        num_old += found == b"old"
    _undisturbed(command)
    if target.read_bytes() != new:
        raise Lost("the rerun wrote other bytes")
    return {
        "what": "compress",
        "kills": num,
        "found the old file": num_old,
        "found the new file": num - num_old,
    }


def kill_train(folder: Path, num: int, chance: random.Random) -> dict[str, str | int]:
    """Runs that are killed three times each, continued, and at last left in peace."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for k in range(4):
        write_image(pictures / f"{k}.png", _picture(k, 96, 96))
    whole = folder / "whole"
    seconds = _undisturbed(_train(whole, pictures))
    expected = Model.load(whole / "model.safetensors").id
    num_kills = num_runs = num_continued = 0
    while num_kills < num:
        out = folder / f"run-{num_runs}"
        num_runs += 1
        for _ in range(min(3, num - num_kills)):
            before = _steps(out / "checkpoint.pt")
            _kill(_train(out, pictures), chance.uniform(0, seconds))
            num_kills += 1
            after = _steps(out / "checkpoint.pt")
            if after < before:
                raise Lost(f"a checkpoint of step {before} became one of step {after}")
            num_continued += after > 0
        _undisturbed(_train(out, pictures))
        if (found := Model.load(out / "model.safetensors").id) != expected:
            raise Lost(f"model {found} after kills, {expected} without")
    return {"what": "train", "kills": num_kills, "runs": num_runs, "kills with a checkpoint": num_continued}


def kill_bench(folder: Path, num: int, chance: random.Random) -> dict[str, str | int]:
    """Benchmark runs that are killed three times each, continued, and at last left in peace."""
    (folder / "set").mkdir()
    digests = []
    for k in range(2):
        path = folder / "set" / f"{k}.png"
        write_image(path, _picture(k, 96, 128))
        digests.append(f'"{path.name}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"')
    suite = folder / "mine.toml"
    suite.write_text(SUITE.format(files=", ".join(digests)), encoding="utf-8")

    def command(out: Path) -> list[str]:
        return [sys.executable, "-m", "vcframe", "bench", "run", str(suite), "--out", str(out), "--jobs", "2"]

    seconds = _undisturbed(command(folder / "bench"))
    expected = _rows(folder / "bench")
    num_kills = num_runs = num_continued = 0
    while num_kills < num:
        out = folder / f"bench-{num_runs}"
        num_runs += 1
        for _ in range(min(3, num - num_kills)):
            before = _rows(out)
            _kill(command(out), chance.uniform(0, seconds))
            num_kills += 1
            after = _rows(out)
            if after[: len(before)] != before:
                raise Lost(f"{len(before)} rows before a kill are not the first of {len(after)} after it")
            num_continued += len(after) > 0
        _undisturbed(command(out))
        if sorted(_rows(out)) != sorted(expected):
            raise Lost(f"the rows of {out.name} are not those of the undisturbed run")
    return {"what": "bench", "kills": num_kills, "runs": num_runs, "kills with rows": num_continued}


def _rows(out: Path) -> list[str]:
    """The whole lines of a run, less what differs between runs: the memory of a worker."""
    path = out / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.dumps({**json.loads(line), "peak_bytes": None}) for line in lines]


def _train(out: Path, pictures: Path) -> list[str]:
    config = {
        "codec": {"codec": "jpeg", "options": {}},
        **{"data": [str(pictures)], "out": str(out), "steps": 12, "device": "cpu"},
        **{"batch": 2, "patch": 32, "crop": 64, "joint_batch": 2, "joint_crop": 64, "pool": 8},
    }
    return [sys.executable, "-c", TRAIN, json.dumps(config)]


def _steps(checkpoint: Path) -> int:
    """Steps in a checkpoint, 0 where there is none yet; raises `Lost` for one that cannot be read."""
    if not checkpoint.exists():
        return 0
    try:
        return int(torch.load(checkpoint, weights_only=True)["state"]["total_steps"])
    except Exception as error:
        raise Lost(f"{checkpoint} cannot be read: {error}") from error


def _undisturbed(command: Sequence[str]) -> float:
    """Run to the end; how long it took."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _kill(command: Sequence[str], after_s: float) -> None:
    """Start in a process group of its own, and kill that."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _picture(seed: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Smooth shapes, so that there is something to compress."""
    y, x = np.mgrid[:height, :width] / 20
    rows = [127 + 60 * np.sin(x + k + seed) + 60 * np.cos(y * (1 + seed) / 2 - k) for k in range(3)]
    return np.stack(rows, 2).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())

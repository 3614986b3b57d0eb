"""The fuzzing script: a chunk of its cases, and that it sees what it is there to see."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import load_script

from vcframe.model import Model
from vcframe.registry import Registry

NUM_FILES = 150
PLUGIN = '''
import os
import zlib

import numpy as np

import vcframe


class Trap(vcframe.Codec):
    """Decodes what it wrote; what it did not, it does not expect."""

    name = "trap"
    extension = ".trap"
    quality_scale = vcframe.QualityScale(1, 8, 1, (1, 2, 8), "unused")
    traits = vcframe.Traits(block=1)

    def encode(self, image, quality):
        return zlib.crc32(image.tobytes()).to_bytes(4, "big") + image.tobytes()

    def decode(self, data):
        if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
            FAULT
        return np.zeros((8, 8), np.uint8)

    def probe(self, data):
        return 8, 8, 1

    def version(self):
        return "1"


@vcframe.hookimpl
def vcframe_codecs():
    return [Trap]
'''


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("fuzz")


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "trap.py"
    path.write_text(PLUGIN.replace("FAULT", request.param))
    return path


def bench_of(script: ModuleType, folder: Path, *plugins: Path) -> Any:
    model = Model.load(script.GOLDEN_MODEL)
    return script.Bench(Registry.load(plugins), model, script.GOLDEN_MODEL.read_bytes(), folder)


@pytest.mark.parametrize("target", ["jpeg", "webp", "jpeg2000", "hevc", "vcf", "model"])
def test_only_our_errors_come_back(target: str, script: ModuleType, tmp_path: Path) -> None:
    bench = bench_of(script, tmp_path)
    outcomes = []
    for case in range(NUM_FILES):
        data = script.mutated(bench, target, random.Random(f"1 {target} {case}"))
        outcomes.append(script.run_case(bench, target, data))
    assert set(outcomes) <= {"refused", "decoded"}
    # Were every file refused, or none, the cases would test little.
    assert 0 < outcomes.count("refused") < NUM_FILES


def test_cases_depend_on_seed_and_number_alone(script: ModuleType, tmp_path: Path) -> None:
    bench = bench_of(script, tmp_path)
    one, two, other = (script.mutated(bench, "jpeg", random.Random(seed)) for seed in ("1", "1", "2"))
    assert one == two != other


@pytest.mark.parametrize("plugin", ["raise ValueError('oh')"], indirect=True)
def test_an_error_of_another_kind_is_a_finding(script: ModuleType, tmp_path: Path, plugin: Path) -> None:
    bench = bench_of(script, tmp_path, plugin)
    data = script.mutate(script.good_file(bench, "trap"), random.Random(0))
    assert "ValueError: oh" in script.run_case(bench, "trap", data)
    assert script.run_case(bench, "trap", script.good_file(bench, "trap")) == "decoded"


HUNGRY = """
            try:
                bytearray(1 << 33)
            except MemoryError:
                os.abort()
"""


@pytest.mark.parametrize(
    ("plugin", "what"),
    [("while True: pass", "no result within 5 s"), (HUNGRY, "ended by SIGABRT")],
    indirect=["plugin"],
    ids=["hang", "memory and crash"],
)
def test_hangs_crashes_and_hunger_are_findings(
    script: ModuleType, tmp_path: Path, plugin: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fuzz.json"
    arguments = ["--num", "1", "--plugin", str(plugin), "--target", "trap", "--out", str(out)]
    assert script.main(arguments) == 1
    assert "trap: 1 files, 0 refused, 0 decoded" in capsys.readouterr().out
    assert json.loads(out.read_text())["targets"][0]["findings"] == [{"case": 0, "what": what}]

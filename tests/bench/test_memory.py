"""The memory script: it measures the real command, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("memory")


def test_the_table_and_the_file(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where torch and all is loaded, the peak is at least what the interpreter takes."""
    monkeypatch.setattr(script, "alone", lambda function, *args: function(*args))
    out = tmp_path / "m.json"
    assert script.main(["--megapixels", "0.002", "--codec", "jpeg", "--scale", "2", "--out", str(out)]) == 0
    (peak,) = json.loads(out.read_text())["peaks"]
    assert (peak["codec"], peak["scale"], peak["height"], peak["width"]) == ("jpeg", 2, 45, 45)
    assert 20e6 < peak["peak_bytes"] < 20e9
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| jpeg | 1/2 | 45x45 | 0.00 MB | ")


def test_the_recorded_peak_keeps_the_promise(script: ModuleType) -> None:
    """1.5 GB for 100 megapixels."""
    result = json.loads((Path(script.__file__).parent / "results" / "memory.json").read_text())
    large = [peak for peak in result["peaks"] if peak["height"] * peak["width"] >= 99e6]
    assert {peak["scale"] for peak in large} == {1, 2}
    assert all(peak["peak_bytes"] <= 1.5e9 for peak in large)

"""The timing script: what it counts, and that its ratios are what they say. No time is asserted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark_scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("speed")


def test_the_networks_of_the_literature_are_theirs(script: ModuleType) -> None:
    """AR-CNN, table 5 of its paper: 106,448 weights. DnCNN: 2 * 9 * 3 * 64 + 15 * 9 * 64 * 64."""
    for network, weights in ((script.arcnn(), 106_448), (script.dncnn(), 556_416)):
        assert sum(p.numel() for p in network.parameters() if p.ndim == 4) == weights


def test_rates_and_shares_follow_from_the_times(script: ModuleType) -> None:
    peak, slow = (
        script.Case(name, 100, 200, 8e6, lambda s=s: time.sleep(s)) for name, s in (("p", 0.005), ("n", 0.02))
    )
    first, second = script.measure([peak, slow], threads=1, rounds=3)
    assert first.share_of_peak == 1
    assert second.share_of_peak == pytest.approx(first.seconds / second.seconds)
    assert second.kmacs_per_pixel == pytest.approx(0.4)
    assert second.megapixels_per_second == pytest.approx(0.02 / second.seconds)
    assert second.gmacs_per_second == pytest.approx(0.008 / second.seconds)


def test_the_table_and_the_file(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(script, "SIZES", ((16, 24),))
    try:
        assert script.main(["--rounds", "1", "--threads", "1", "--out", str(tmp_path / "s.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = capsys.readouterr().out.splitlines()[2:]
    timings = json.loads((tmp_path / "s.json").read_text())["timings"]
    assert len(rows) == len(timings) == 1 + 2 * (3 + 2) + 2
    assert "| small, scale 1/2: restore | 1 | 24x16 |" in rows[4]

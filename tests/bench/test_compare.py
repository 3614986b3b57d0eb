"""Comparing two runs: what is a regression, and the command's exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_runs import curve, failure, row, write_run
from command_line import ok, refused, run


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return write_run(tmp_path / "earlier", both())


def both(factor: float = 1.0) -> list:  # type: ignore[type-arg]
    rows = []
    for image in ("made/a.png", "made/b.png"):
        rows += curve(image, "jpeg", "plain") + curve(image, "jpeg", "vcframe", 0.8 * factor, scale=2)
    return rows


def test_a_run_is_no_worse_than_itself(earlier: Path) -> None:
    output = ok("bench", "compare", earlier, earlier, "--margin", 0).stdout
    assert "vcframe jpeg" in output
    assert "+0.00 %" in output


@pytest.mark.parametrize(("factor", "status"), [(1.005, 0), (1.03, 1), (0.9, 0)])
def test_more_bytes_than_the_margin_fail(earlier: Path, tmp_path: Path, factor: float, status: int) -> None:
    later = write_run(tmp_path / "later", both(factor))
    result = run("bench", "compare", earlier, later, "--margin", 1, "--json")
    assert result.exit_code == status
    by_name = {(one["system"], one["metric"]): one for one in json.loads(result.stdout)}
    judged = by_name["vcframe jpeg", "psnr"]
    assert judged["bd_rate_percent"] == pytest.approx(100 * (factor - 1), abs=0.01)
    assert (judged["regression"] is not None) == bool(status)
    assert by_name["plain jpeg", "psnr"]["regression"] is None
    assert run("bench", "compare", earlier, later, "--margin", 5).exit_code == 0


def test_a_file_that_fails_now_and_a_picture_that_is_missing_fail(earlier: Path, tmp_path: Path) -> None:
    without = [r for r in both() if r.task.image == "made/a.png" or r.task.method == "plain"]
    lost = run(
        "bench", "compare", earlier, write_run(tmp_path / "lost", without), "--metric", "psnr", "--json"
    )
    assert lost.exit_code == 1
    assert [one["regression"] for one in json.loads(lost.stdout)] == [None, "1 pictures are missing"]
    broken = [r for r in both() if r != row("made/a.png", "jpeg", "plain", 10.0)]
    broken.append(failure("made/a.png", "jpeg", "plain", 10, "out of memory"))
    result = run("bench", "compare", earlier, write_run(tmp_path / "broken", broken), "--metric", "psnr")
    assert result.exit_code == 1
    assert "1 files failed that did not before" in result.stdout


def test_runs_with_nothing_in_common_are_refused(earlier: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", curve("made/z.png", "webp", "plain"))
    assert "not measured" in refused("bench", "compare", earlier, other)
    assert "no metric 'vmaf' in common" in refused("bench", "compare", earlier, other, "--metric", "vmaf")
    assert "is no folder of a run" in refused("bench", "compare", earlier, tmp_path)

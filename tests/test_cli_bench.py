"""`vcframe bench` as typed: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from benchmark_suites import extended, suite_file, toys
from command_line import ok, refused, run

from vcframe.bench.rows import Row
from vcframe.bench.store import read_about, read_rows

__all__ = ["suite_file", "toys"]

pytestmark = pytest.mark.usefixtures("no_shipped_models")

SUITE = 'methods = ["plain", "vcframe"]\n[codecs.toy]\nqualities = [2, 8]\n'


@pytest.fixture
def suite(suite_file: Path) -> Path:
    extended(suite_file, SUITE)
    return suite_file


def test_list_names_suites_and_what_they_measure() -> None:
    text = ok("bench", "list").stdout
    assert "robust" in text
    rows = {row["name"]: row for row in json.loads(ok("bench", "list", "--json").stdout)}
    assert rows["paper"]["channels"] == 1
    assert [part["set"] for part in rows["paper"]["images"]] == ["set5", "set7", "set14", "live1"]
    assert len(rows["paper"]["digest"]) == 64


def test_plan_lists_every_task_and_what_is_left_out(suite: Path, toys: Path) -> None:
    result = ok("--plugin", toys, "bench", "plan", suite, "--tasks")
    lines = result.stdout.splitlines()
    assert lines[:-1] == [f"mine/{name}.png: toy {quality}, plain" for name in "ab" for quality in (2, 8)]
    assert lines[-1].startswith("4 tasks, very roughly 0:0")
    assert result.stderr.startswith("vcframe: left out: toy, vcframe: no model for codec toy is installed")
    plan = json.loads(ok("--plugin", toys, "bench", "plan", suite, "--json").stdout)
    assert len(plan["tasks"]) == 4
    assert len(plan["left_out"]) == 1
    assert "toy" in ok("--plugin", toys, "bench", "plan", suite).stdout


def test_run_in_two_shards_and_merge(suite: Path, toys: Path, tmp_path: Path) -> None:
    for part in (1, 2):
        run = ("--plugin", toys, "bench", "run", suite, "--out", tmp_path / str(part), "--shard", f"{part}/2")
        assert ok(*run, "--jobs", 1).stdout == f"{tmp_path / str(part)}: 2 tasks\n"
    merged = ok("bench", "merge", tmp_path / "all", tmp_path / "1", tmp_path / "2")
    assert merged.stdout == f"{tmp_path / 'all'}: 4 tasks of 2 runs\n"
    assert all(row.error is None for row in read_rows(tmp_path / "all"))
    about = read_about(tmp_path / "1")
    assert (about["shard"], about["machine"]["num_workers"]) == ("1/2", 1)
    half = ok("bench", "merge", tmp_path / "half", tmp_path / "2")
    assert half.stderr == "vcframe: 2 of 4 tasks are in none of the folders\n"


def test_an_interrupted_run_says_how_to_go_on(
    suite: Path, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> Generator[Row]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("vcframe.bench.run.run_tasks", interrupted)
    result = run("--plugin", toys, "bench", "run", suite, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "vcframe: error: interrupted: the same command does the rest"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--shard", "3/2"), "--shard 3/2: give I/N with I from 1 to N, for example 1/4"),
        (("--model", "none.safetensors"), "no model file or id 'none.safetensors'"),
    ],
)
def test_refusals_are_one_line(
    suite: Path, toys: Path, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    out = tmp_path / "run"
    assert line in refused("--plugin", toys, "bench", "run", suite, "--out", out, *arguments)
    assert not out.exists()
    assert refused("bench", "merge", out, tmp_path).startswith(f"{tmp_path} is no folder of a run")

"""Runs on a Ray cluster of one machine: the local workers' rows, deaths, interruptions, what is missing."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark_suites import extended, suite_file, toys
from command_line import ok, refused

from vcframe import UsageError, VcframeError
from vcframe.bench.cluster import Cluster, connected, run_tasks
from vcframe.bench.measuring import Job
from vcframe.bench.plan import make_plan
from vcframe.bench.rows import Row
from vcframe.bench.store import read_about, read_rows
from vcframe.bench.workers import run_tasks as run_locally
from vcframe.registry import Registry

__all__ = ["suite_file", "toys"]

PATH = os.pathsep.join(filter(None, sys.path))
"""Where a worker finds what the plugin file imports."""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray, connected to a cluster of its own on this machine."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'vcframe[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        with connected("local") as cluster:
            assert cluster.num_nodes == 1
            yield sys.modules["ray"]


def job_of(suite_file: Path, toys: Path, text: str) -> tuple[Job, list[Any]]:
    plan = make_plan(extended(suite_file, 'methods = ["plain"]\n' + text), Registry.load([toys]))
    return Job(plan.suite, plan.paths, plan.metrics, plugin_files=(toys,)), list(plan.tasks)


def untimed(row: Row) -> Row:
    return replace(row, encode_s=None, decode_s=None, peak_bytes=None)


def wait_until_free(ray: Any) -> None:
    """Until no actor holds a CPU; a minute at most."""
    for _ in range(120):
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return
        time.sleep(0.5)
    raise AssertionError(f"actors are left: {ray.available_resources()}")


class TestActors:
    def test_rows_are_those_of_the_local_workers(self, ray: Any, suite_file: Path, toys: Path) -> None:
        """With more workers than the cluster has CPUs for, too."""
        job, tasks = job_of(suite_file, toys, "[codecs.toy]\nqualities = [1, 4]\n[codecs.jpeg]\n")
        rows = {row.task.key: untimed(row) for row in run_tasks(job, tasks, os.cpu_count() + 1)}
        assert rows == {row.task.key: untimed(row) for row in run_locally(job, tasks, 1)}
        assert len(rows) == len(tasks)
        assert {row.error for row in rows.values()} == {None}

    def test_an_actor_that_dies_or_hangs_costs_one_row(
        self, ray: Any, suite_file: Path, toys: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        text = 'metrics = ["psnr"]\ntask_limit_s = 20\n[codecs.moody]\nqualities = [1, 2, 3, 4]\n'
        job, tasks = job_of(suite_file, toys, text)
        tasks = [task for task in tasks if task.image == "mine/a.png"]
        rows = {row.task.quality: row for row in run_tasks(job, tasks, 1)}
        assert rows[1].error == "RuntimeError: a library's own error"
        assert rows[2].error == "the worker process ended (ActorDiedError)"
        assert rows[3].error == "took longer than 20 s"
        assert rows[4].error is None
        wait_until_free(ray)
        assert capfd.readouterr() == ("", ""), "Ray says nothing; the row does"

    def test_a_worker_that_cannot_begin_says_why(self, ray: Any, suite_file: Path, toys: Path) -> None:
        job, tasks = job_of(suite_file, toys, "[codecs.toy]\n")
        toys.unlink()
        with pytest.raises(VcframeError, match=r"a worker failed before its first task: .*toys\.py"):
            list(run_tasks(job, tasks, 1))

    def test_an_interrupted_run_goes_on_with_either_engine(
        self, ray: Any, suite_file: Path, toys: Path, tmp_path: Path
    ) -> None:
        extended(suite_file, 'methods = ["plain"]\nrepeats = 40\n[codecs.slow]\nqualities = [8]\n')
        out = tmp_path / "run"
        common = ["--plugin", str(toys), "bench", "run", str(suite_file), "--out", str(out), "--json"]
        address = ray.get_runtime_context().gcs_address
        process = subprocess.Popen(
            [sys.executable, "-m", "vcframe", *common, "--engine", "ray", "--address", address],
            env=os.environ | {"PYTHONPATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # It is ignored in what a shell runs in the background, and children take that over.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        rows = out / "rows.jsonl"
        while process.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate()
        assert (process.returncode, printed) == (130, ""), said
        assert said.splitlines()[-1] == "vcframe: error: interrupted: the same command does the rest"
        wait_until_free(ray)
        kept = rows.read_bytes()
        assert 3 <= kept.count(b"\n") < 80
        about = read_about(out)
        assert about["engine"] == {"name": "ray", "num_nodes": 1}
        assert about["versions"]["ray"] == ray.__version__
        ok(*common)
        assert rows.read_bytes().startswith(kept)
        assert len({row.task.key for row in read_rows(out)}) == 80


class TestWhatIsMissing:
    def test_ray(self, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        line = refused("bench", "run", suite_file, "--out", tmp_path / "run", "--engine", "ray")
        assert line == "ray is not installed; it comes with: pip install 'vcframe[ray]'"
        assert not (tmp_path / "run").exists()

    def test_a_cluster(self, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def init(address: str, **settings: Any) -> None:
            raise ConnectionError("Could not find\nany")

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, __version__="0"))
        command = ("bench", "run", suite_file, "--out", tmp_path / "run", "--engine", "ray")
        remedy = "start one with `ray start --head`, or give --address local"
        assert refused(*command) == f"no Ray cluster here (Could not find any): {remedy}"
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            line = f"no Ray cluster at {address} ([Errno 111] Connection refused): {remedy}"
            assert refused(*command, "--address", address) == line
            monkeypatch.setenv("RAY_ADDRESS", address)
            assert refused(*command) == line

    def test_cpus(self) -> None:
        cluster = Cluster((8, 3, 0))
        assert [cluster.num_workers(threads) for threads in (1, 2, 3, 8)] == [11, 5, 3, 1]
        with pytest.raises(UsageError, match="no machine of the Ray cluster has the 9 CPUs"):
            cluster.num_workers(9)

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("--engine", "dask"), "--engine dask: give local or ray"),
            (("--address", "auto"), "--address is for --engine ray"),
        ],
    )
    def test_sense(self, suite_file: Path, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
        assert refused("bench", "run", suite_file, "--out", tmp_path / "run", *arguments) == line

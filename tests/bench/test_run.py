"""Runs: rows of real files, failures, kills, shards."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from benchmark_suites import TOML, TOYS, digest, extended, suite_file, toys
from command_line import fresh_model

from vcframe import UsageError
from vcframe.bench import measuring, workers
from vcframe.bench.measuring import Bench, Job, kept_name
from vcframe.bench.plan import Plan, make_plan
from vcframe.bench.rows import Row, Task
from vcframe.bench.run import Progress, RunStopped, Settings, run_plan
from vcframe.bench.store import merge_runs, read_about, read_rows
from vcframe.bench.workers import run_tasks, thread_variables
from vcframe.coder import decompress
from vcframe.images import luma, read_image, write_image
from vcframe.metrics import psnr
from vcframe.registry import Registry

__all__ = ["suite_file", "toys"]

pytestmark = pytest.mark.usefixtures("no_shipped_models")

SUITE = 'methods = ["plain"]\n[codecs.toy]\nqualities = [1, 2, 3, 4, 5, 6, 7, 8]\n'


def here(job: Job, tasks: Sequence[Task], num_workers: int) -> Generator[Row]:
    """The engine without processes."""
    bench = Bench(job)
    yield from map(bench.row, tasks)


def planned(suite_file: Path, toys: Path, text: str = SUITE) -> tuple[Plan, Settings]:
    plan = make_plan(extended(suite_file, text), Registry.load([toys]))
    return plan, Settings(num_workers=2, plugin_files=(toys,))


def run_here(plan: Plan, out: Path, settings: Settings) -> list[Progress]:
    seen: list[Progress] = []
    run_plan(plan, out, settings, seen.append, here)
    return seen


def keys(folder: Path) -> list[str]:
    return [row.task.key for row in read_rows(folder)]


class TestRows:
    @pytest.mark.parametrize("timing", ["true", "false"])
    def test_the_first_time_is_taken_after_a_rehearsal(
        self, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timing: str
    ) -> None:
        shapes: list[tuple[int, ...]] = []
        encode = measuring._encode
        monkeypatch.setattr(
            measuring,
            "_encode",
            lambda way, quality: (shapes.append(way.image.shape), encode(way, quality))[1],
        )
        text = f'methods = ["plain"]\ntiming = {timing}\n[codecs.webp]\nqualities = [9, 30]\n'
        plan = make_plan(extended(suite_file, text), Registry.load())
        run_here(plan, tmp_path / "run", Settings(1))
        sizes = {row.task.image: (row.height, row.width, 3) for row in read_rows(tmp_path / "run")}
        rehearsed = [shapes.pop(0)] if timing == "true" else []
        assert all(max(shape) <= measuring.WARM_UP_SIDE for shape in rehearsed)
        assert sorted(shapes) == sorted([*sizes.values()] * 2)

    def test_a_row_is_what_the_file_and_its_decoding_are(self, suite_file: Path, tmp_path: Path) -> None:
        model = fresh_model("jpeg", dead_zone=0.7)
        model.save(tmp_path / "m.safetensors")
        text = 'methods = ["plain", "post", "vcframe"]\nkeep = true\nchannels = {}\n'
        text += "[codecs.jpeg]\nqualities = [20]\n"
        registry, reference = Registry.load(), str(tmp_path / "m.safetensors")
        for channels, grey in ((3, False), (1, True)):
            path = tmp_path / f"own{channels}.toml"
            path.write_text(suite_file.read_text())
            plan = make_plan(extended(path, text.format(channels)), registry, references=[reference])
            out = tmp_path / f"run{channels}"
            run_here(plan, out, Settings(1, references=(reference,)))
            rows = list(read_rows(out))
            assert {(r.task.method, r.task.scale) for r in rows} == {
                ("plain", None), ("post", 2), ("vcframe", None), ("vcframe", 2)
            }  # fmt: skip
            for row in rows:
                data = (out / "files" / kept_name(row.task, ".jpg")).read_bytes()
                restored = decompress(data, registry, lambda model_id, codec: model).image
                original = read_image(suite_file.parent / "pictures" / Path(row.task.image).name)
                if grey:
                    original, restored = luma(original), luma(restored)
                assert (row.height, row.width) == original.shape[:2]
                assert row.num_bytes == len(data)
                assert row.metrics["psnr"] == psnr(original, restored)
                assert (row.describe_s is None) == (row.restore_s is None) == (row.task.scale is None)
                assert row.encode_s is not None
                assert row.decode_s is not None

    def test_a_metric_that_is_not_defined_has_no_value(self, suite_file: Path, tmp_path: Path) -> None:
        """And without timing there are no seconds."""
        tiny = tmp_path / "pictures" / "a.png"
        write_image(tiny, read_image(tiny)[:8, :8])
        digests = {"a.png": digest(tiny), "b.png": digest(tiny.with_name("b.png"))}
        suite_file.write_text(TOML.format(a=digests["a.png"], b=digests["b.png"]))
        text = 'methods = ["plain"]\ntiming = false\n[codecs.webp]\nqualities = [9]\n'
        run_here(make_plan(extended(suite_file, text), Registry.load()), tmp_path / "run", Settings(1))
        rows = {row.task.image: row for row in read_rows(tmp_path / "run")}
        assert {name: list(row.metrics) for name, row in rows.items()} == {
            "mine/a.png": ["psnr"],
            "mine/b.png": ["psnr", "ssim"],
        }
        assert all(row.encode_s is row.decode_s is None for row in rows.values())

    def test_a_plugin_s_method_is_measured(self, suite_file: Path, toys: Path, tmp_path: Path) -> None:
        text = 'methods = ["nearest"]\n[codecs.toy]\nqualities = [8]\n[codecs.slow]\n'
        plan, settings = planned(suite_file, toys, text)
        assert plan.left_out == ("slow, nearest: it has nothing for slow",)
        assert plan.models == {"toy/nearest": {"id": "0badcafe", "card": None}}
        run_here(plan, tmp_path / "run", settings)
        for row in read_rows(tmp_path / "run"):
            image = read_image(suite_file.parent / "pictures" / Path(row.task.image).name)
            nearest = image[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
            height, width = image.shape[:2]
            assert row.metrics["psnr"] == psnr(image, nearest[:height, :width])
            assert row.task.scale == 2
            assert row.restore_s is not None


class TestRuns:
    def test_a_run_says_what_it_was_and_a_finished_one_is_left_alone(
        self, suite_file: Path, toys: Path, tmp_path: Path
    ) -> None:
        plan, settings = planned(suite_file, toys)
        seen = run_here(plan, tmp_path / "run", settings)
        assert [p.num_done for p in seen] == list(range(17))
        assert seen[-1].remaining_s == 0
        assert keys(tmp_path / "run") == [task.key for task in plan.shard(1, 1)]
        about = read_about(tmp_path / "run")
        assert about["suite"] == {
            "name": "own",
            "digest": plan.suite.digest,
            "definition": plan.suite.model_dump(mode="json"),
        }
        assert about["machine"]["num_threads"] == 1
        assert about["metrics"] == ["psnr", "ssim"]
        assert about["models"] == {}
        assert about["shard"] is None
        before = (tmp_path / "run" / "rows.jsonl").read_bytes()
        assert len(run_here(plan, tmp_path / "run", settings)) == 1
        assert (tmp_path / "run" / "rows.jsonl").read_bytes() == before

    def test_a_stopped_run_does_the_rest(self, suite_file: Path, toys: Path, tmp_path: Path) -> None:
        plan, settings = planned(suite_file, toys)
        run_here(plan, tmp_path / "run", settings)
        path = tmp_path / "run" / "rows.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:5]) + lines[5][:40])
        seen = run_here(plan, tmp_path / "run", settings)
        assert seen[0].num_done == 5
        assert len(seen) == 12
        assert path.read_bytes().startswith(b"".join(lines[:5]))
        assert keys(tmp_path / "run") == [task.key for task in plan.shard(1, 1)]

    def test_a_folder_with_other_things_is_refused(
        self, suite_file: Path, toys: Path, tmp_path: Path
    ) -> None:
        plan, settings = planned(suite_file, toys)
        out = tmp_path / "run"
        out.mkdir()
        (out / "photo.jpg").touch()
        with pytest.raises(UsageError, match="is not an empty folder nor one of an earlier run"):
            run_here(plan, out, settings)
        (out / "photo.jpg").unlink()
        run_here(plan, out, settings)
        other = make_plan(extended(suite_file, "[codecs.webp]\nqualities = [3]\n"), Registry.load([toys]))
        with pytest.raises(UsageError, match=f"{out} holds a run with another suite"):
            run_here(other, out, settings)
        with pytest.raises(UsageError, match="another shard"):
            run_here(plan, out, Settings(1, plugin_files=(toys,), shard=(1, 2)))

    def test_more_than_a_tenth_failing_stops_the_run(
        self, suite_file: Path, toys: Path, tmp_path: Path
    ) -> None:
        text = SUITE + "[codecs.moody]\nqualities = [1, 4, 5]\n"
        plan, settings = planned(suite_file, toys, text)  # 2 of 22 tasks fail: under a tenth
        assert run_here(plan, tmp_path / "few", settings)[-1].num_failed == 2
        errors = [row.error for row in read_rows(tmp_path / "few") if row.error]
        assert errors == ["RuntimeError: a library's own error"] * 2
        plan, settings = planned(suite_file, toys, "[codecs.moody2]\ncodec = 'moody'\nqualities = [1]\n")
        with pytest.raises(
            RunStopped, match=r"stopped: 3 of 24 tasks failed, more than a tenth; the last, moody"
        ):
            run_here(plan, tmp_path / "many", settings)
        num_rows = len(keys(tmp_path / "many"))
        with pytest.raises(RunStopped):
            run_here(plan, tmp_path / "many", settings)
        assert len(keys(tmp_path / "many")) == num_rows, "nothing runs before the cause is mended"
        toys.write_text(TOYS.replace("quality == 1", "quality == 0"))
        retry = Settings(1, plugin_files=(toys,), retry_failed=True)
        assert run_here(plan, tmp_path / "many", retry)[-1].num_failed == 0

    def test_shards_merge_into_one_run(self, suite_file: Path, toys: Path, tmp_path: Path) -> None:
        plan, settings = planned(suite_file, toys)
        folders = [tmp_path / "one", tmp_path / "two"]
        for number, folder in enumerate(folders, 1):
            run_here(plan, folder, Settings(1, plugin_files=(toys,), shard=(number, 2)))
        assert merge_runs(folders[:1], tmp_path / "half") == (8, 16)
        assert merge_runs(folders, tmp_path / "both") == (16, 16)
        assert sorted(keys(tmp_path / "both")) == sorted(task.key for task in plan.tasks)
        about = read_about(tmp_path / "both")
        assert (about["shard"], [part["shard"] for part in about["parts"]]) == (None, ["1/2", "2/2"])
        assert run_here(plan, tmp_path / "half", settings)[-1].num_done == 16, "a merged run goes on"
        other = make_plan(extended(suite_file, "[codecs.webp]\nqualities = [3]\n"), Registry.load([toys]))
        run_here(other, tmp_path / "other", settings)
        with pytest.raises(UsageError, match=r"other and .*one cannot be merged: another suite"):
            merge_runs([folders[0], tmp_path / "other"], tmp_path / "none")
        assert not (tmp_path / "none").exists()


class TestProcesses:
    def test_a_worker_that_dies_or_hangs_costs_one_row(self, suite_file: Path, toys: Path) -> None:
        text = 'methods = ["plain"]\nmetrics = ["psnr"]\ntask_limit_s = 4\n'
        text += "[codecs.moody]\nqualities = [1, 2, 3, 4]\n"
        plan, _ = planned(suite_file, toys, text)
        job = Job(plan.suite, plan.paths, plan.metrics, plugin_files=(toys,))
        tasks = [task for task in plan.tasks if task.image == "mine/a.png"]
        rows = {row.task.quality: row for row in run_tasks(job, tasks, 2)}
        assert rows[1].error == "RuntimeError: a library's own error"
        assert rows[2].error == "the worker process ended with status 3"
        assert rows[3].error == "took longer than 4 s"
        assert rows[4].error is None
        assert rows[4].peak_bytes is not None

    def test_a_worker_whose_run_was_killed_ends_quietly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parent, child = multiprocessing.Pipe()

        class Orphaned:
            def __init__(self, job: object) -> None:
                pass

            def row(self, task: object) -> None:
                parent.close()

        monkeypatch.setattr(workers, "Bench", Orphaned)
        monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
        parent.send("a task")
        workers._serve(child, None)
        with pytest.raises(OSError, match="closed"):
            parent.recv()

    def test_threads_are_pinned_before_libraries_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        import_all = "import cv2, torch; print(cv2.getNumThreads(), torch.get_num_threads())"
        done = subprocess.run(
            [sys.executable, "-c", import_all],
            env=os.environ | thread_variables(1),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["1", "1"]

    def test_a_killed_run_goes_on(self, suite_file: Path, toys: Path, tmp_path: Path) -> None:
        text = 'methods = ["plain"]\nrepeats = 8\n[codecs.slow]\nqualities = [4, 8]\n'
        plan, _ = planned(suite_file, toys, text)
        out = tmp_path / "run"
        command = [sys.executable, "-m", "vcframe", "--plugin", str(toys), "bench", "run", str(suite_file)]
        command += ["--out", str(out), "--jobs", "1"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(command, env=environment)
        rows = out / "rows.jsonl"
        while process.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        whole = rows.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        assert 3 <= kept.count(b"\n") < 32
        done = subprocess.run(
            [*command, "--json"], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == {"out": str(out), "num_tasks": 32, "num_failed": 0}
        assert rows.read_bytes().startswith(kept)
        assert sorted(keys(out)) == sorted(task.key for task in plan.tasks)

"""Run a plan: what is left of it goes to the workers, and each row is on disk before the next is awaited."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcframe.bench import provenance
from vcframe.bench.measuring import Job
from vcframe.bench.plan import Plan
from vcframe.bench.rows import Row, Task
from vcframe.bench.store import FILES, SCHEMA_VERSION, appending, open_run
from vcframe.bench.workers import run_tasks
from vcframe.codec import VcframeError

MAX_FAILED = 0.1
"""Share of the tasks that may fail before a run stops."""

Engine = Callable[[Job, Sequence[Task], int], Generator[Row]]
"""Measures tasks in so many workers and yields rows in the order of finishing."""


class RunStopped(VcframeError):
    """More than a tenth of the tasks failed."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    num_done: int
    """Rows on disk, those of an earlier start included."""
    num_tasks: int
    num_failed: int
    remaining_s: float | None
    row: Row | None
    """The last one; None before the first."""


@dataclass(frozen=True)
class Settings:
    """How a plan is run here."""

    num_workers: int
    num_threads: int = 1
    """Of each worker."""
    shard: tuple[int, int] = (1, 1)
    """Part `i` of `n`, from 1."""
    retry_failed: bool = False
    """Whether tasks that failed before are tried again."""
    plugin_files: tuple[Path, ...] = ()
    references: tuple[str, ...] = ()
    num_nodes: int | None = None
    """Machines of the Ray cluster that runs it; None where the workers are processes of this one."""


def run_plan(
    plan: Plan,
    out: Path,
    settings: Settings,
    on_progress: Callable[[Progress], None],
    engine: Engine | None = None,
) -> Progress:
    """Run a plan into the folder `out`, or continue one; the last progress.

    Raises `RunStopped` where more than a tenth of the tasks fail, and `UsageError` for a folder that holds
    something else. Whatever stops a run, the rows are on disk, and the same call does the rest.
    """
    tasks = plan.shard(*settings.shard)
    earlier = open_run(out, about(plan, settings))
    if settings.retry_failed:
        earlier = {key: row for key, row in earlier.items() if row.error is None}
    todo = [task for task in tasks if task.key not in earlier]
    failed = [row for row in earlier.values() if row.error is not None]
    started, num_earlier = time.monotonic(), len(tasks) - len(todo)
    progress = Progress(num_earlier, len(tasks), len(failed), None, None)
    _check_failures(failed, len(tasks))
    on_progress(progress)
    rows = (engine or run_tasks)(_job(plan, out, settings), todo, settings.num_workers)
    with closing(rows), appending(out) as file:
        for count, row in enumerate(rows, 1):
            file.write(row.to_json() + "\n")
            failed += [row] if row.error is not None else []
            remaining_s = (time.monotonic() - started) / count * (len(todo) - count)
            progress = Progress(num_earlier + count, len(tasks), len(failed), remaining_s, row)
            on_progress(progress)
            _check_failures(failed, len(tasks))
    return progress


def about(plan: Plan, settings: Settings) -> dict[str, Any]:
    """`run.json`: what it takes to judge the rows and to make them again."""
    suite, shard = plan.suite, "/".join(map(str, settings.shard))
    definition, nodes = suite.model_dump(mode="json"), settings.num_nodes
    return {
        "schema": SCHEMA_VERSION,
        "suite": {"name": suite.name, "digest": suite.digest, "definition": definition},
        "plan": {"digest": plan.digest, "num_tasks": len(plan.tasks)},
        "left_out": list(plan.left_out),
        "command": provenance.command_line(),
        "versions": provenance.versions(),
        "codecs": dict(plan.codec_versions),
        "machine": provenance.machine(settings.num_workers, settings.num_threads),
        "engine": {"name": "local"} if nodes is None else {"name": "ray", "num_nodes": nodes},
        "commit": provenance.commit(),
        "models": dict(plan.models),
        "shard": None if settings.shard == (1, 1) else shard,
        "metrics": list(plan.metrics),
        "lower_is_better": list(plan.lower_is_better),
        "units": {"*_s": "seconds", "num_bytes": "bytes of the whole file", "peak_bytes": "bytes"},
    }


def _job(plan: Plan, out: Path, settings: Settings) -> Job:
    files = out.resolve() / FILES if plan.suite.keep else None
    if files is not None:
        files.mkdir(exist_ok=True)
    return Job(
        plan.suite,
        {name: path.resolve() for name, path in plan.paths.items()},
        plan.metrics,
        tuple(str(Path(name).resolve()) if Path(name).is_file() else name for name in settings.references),
        settings.plugin_files,
        settings.num_threads,
        files,
    )


def _check_failures(failed: Sequence[Row], num_tasks: int) -> None:
    if len(failed) > MAX_FAILED * num_tasks:
        last = failed[-1]
        raise RunStopped(
            f"stopped: {len(failed)} of {num_tasks} tasks failed, more than a tenth; the last, "
            f"{last.task.codec} {last.task.method} on {last.task.image}: {last.error} "
            "(mend the cause and add --retry-failed)"
        )

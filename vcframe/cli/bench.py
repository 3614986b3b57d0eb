"""`vcframe bench`: suites of measurements over codecs and methods, from plan to report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcframe.cli import reporting
from vcframe.cli.common import (
    INTERRUPTED,
    Json,
    ProgressBar,
    RunFolder,
    Session,
    clock,
    console,
    fail,
    note,
    print_json,
)
from vcframe.codec import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from vcframe.bench.cluster import Cluster
    from vcframe.bench.plan import Plan
    from vcframe.bench.run import Progress

app = typer.Typer(
    help="Measure codecs and methods on image sets: real files, one row each.", no_args_is_help=True
)

SuiteName = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="Name of a suite (`vcframe bench list`) or a .toml file."),
]
Images = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the suite's pictures.", show_default=False),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="FILE|ID", help="A model for its codec; repeatable.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Worker processes; as many as the cores (or the cluster) and the suite allow if not given.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="Threads of each worker.")]


@app.command("list")
def list_suites(ctx: typer.Context, as_json: Json = False) -> None:
    """List the suites of the installed plugins."""
    session: Session = ctx.obj

    from vcframe.bench import suite

    suites = suite.list_suites(session.registry)
    if as_json:
        print_json([found.model_dump(mode="json") | {"digest": found.digest} for found in suites])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("suite", "measures", "images", "codecs", "methods", "metrics")
    for found in suites:
        sets = ", ".join(part.set for part in found.images)
        codecs = "all installed" if found.codecs is None else ", ".join(found.codecs)
        cells = (found.name, found.title, sets, codecs, ", ".join(found.methods), ", ".join(found.metrics))
        table.add_row(*map(escape, cells))
    console().print(table)


@app.command("plan")
def plan(
    ctx: typer.Context,
    suite_name: SuiteName,
    images: Images = None,
    models: Models = None,
    jobs: Workers = None,
    threads: Threads = 1,
    tasks: Annotated[bool, typer.Option("--tasks", help="Print a line for each task.")] = False,
    as_json: Json = False,
) -> None:
    """List what a run would do, what it would leave out and why, and about how long it would take."""
    session: Session = ctx.obj
    planned = _plan(session, suite_name, images, models)
    seconds = planned.cost_s / _num_workers(planned, jobs, threads)
    if as_json:
        print_json(
            {
                "suite": planned.suite.name,
                "digest": planned.digest,
                "estimate_s": round(seconds),
                "left_out": planned.left_out,
                "tasks": [dataclasses.asdict(task) for task in planned.tasks],
            }
        )
        return
    if tasks:
        for task in planned.tasks:
            scale = "" if task.scale is None else f" at 1/{task.scale}"
            repeat = f", repeat {task.repeat}" if task.repeat else ""
            print(f"{task.image}: {task.codec} {task.quality:g}, {task.method}{scale}{repeat}")
    else:
        console().print(_plan_table(planned))
    _note_left_out(planned)
    print(f"{len(planned.tasks)} tasks, very roughly {clock(seconds)} minutes; plan {planned.digest[:12]}")


@app.command("run")
def run(
    ctx: typer.Context,
    suite_name: SuiteName,
    out: RunFolder,
    images: Images = None,
    models: Models = None,
    jobs: Workers = None,
    threads: Threads = 1,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Part I of N: split a run over machines, then merge.")
    ] = "1/1",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            metavar="local|ray", help="Where workers run: on this machine, or on an existing Ray cluster."
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto|local",
            help="Of the Ray cluster; `auto` (if not given) finds it as Ray does, `local` starts one here.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a suite; the same command continues an interrupted run.

    DIR receives run.json and rows.jsonl, one line for each finished task.
    """
    session: Session = ctx.obj
    part = _parse_shard(shard)

    from vcframe.bench.cluster import run_tasks
    from vcframe.bench.run import Settings, run_plan

    try:
        with _cluster(engine, address) as cluster:
            planned = _plan(session, suite_name, images, models)
            _note_left_out(planned)
            settings = Settings(
                num_workers=_num_workers(planned, jobs, threads, cluster),
                num_threads=threads,
                shard=part,
                retry_failed=retry_failed,
                plugin_files=tuple(path.resolve() for path in session.plugin_files),
                references=tuple(models or ()),
                num_nodes=None if cluster is None else cluster.num_nodes,
            )
            there = None if cluster is None else run_tasks
            with ProgressBar() as bar:
                end = run_plan(planned, out, settings, lambda progress: _show(bar, progress), there)
    except KeyboardInterrupt:
        fail(ctx, "interrupted: the same command does the rest", INTERRUPTED)
        return
    if as_json:
        print_json({"out": str(out), "num_tasks": end.num_tasks, "num_failed": end.num_failed})
    else:
        failed = f", {end.num_failed} of them failed (`error` in the rows says why)" if end.num_failed else ""
        print(f"{out}: {end.num_done} tasks{failed}")


@app.command("merge")
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.", show_default=False)],
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of shards.", show_default=False)
    ],
) -> None:
    """Join the shards of one suite into one run."""
    from vcframe.bench.store import merge_runs

    num_rows, num_tasks = merge_runs(runs, out)
    if num_rows < num_tasks:
        note(f"{num_tasks - num_rows} of {num_tasks} tasks are in none of the folders")
    print(f"{out}: {num_rows} tasks of {len(runs)} runs")


def _plan(session: Session, name: str, images: Path | None, models: list[str] | None) -> Plan:
    from vcframe.bench.plan import make_plan
    from vcframe.bench.suite import find_suite

    suite = find_suite(name, session.registry)
    return make_plan(suite, session.registry, images, models or ())


def _cluster(engine: str, address: str | None) -> AbstractContextManager[Cluster | None]:
    """The cluster of `--engine ray`; None for this machine's processes."""
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine}: give local or ray")
    if engine == "local":
        if address is not None:
            raise UsageError("--address is for --engine ray")
        return nullcontext()
    from vcframe.bench.cluster import connected

    return connected(address or "auto")


def _num_workers(plan: Plan, jobs: int | None, threads: int, cluster: Cluster | None = None) -> int:
    from vcframe.bench.provenance import num_cores

    most = max(1, num_cores() // threads) if cluster is None else cluster.num_workers(threads)
    return jobs or min(most, plan.suite.max_workers or most)


def _plan_table(plan: Plan) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("codec", "method", "scale", title=escape(plan.suite.title))
    for heading in ("pictures", "qualities", "tasks"):
        table.add_column(heading, justify="right")
    systems = Counter((task.codec, task.method, task.scale) for task in plan.tasks)
    for (codec, method, scale), count in systems.items():
        mine = [t for t in plan.tasks if (t.codec, t.method, t.scale) == (codec, method, scale)]
        counts = len({t.image for t in mine}), len({t.quality for t in mine}), count
        name = "-" if scale is None else f"1/{scale}" if scale > 1 else "1"
        table.add_row(escape(codec), escape(method), name, *map(str, counts))
    return table


def _note_left_out(plan: Plan) -> None:
    for line in plan.left_out:
        note(f"left out: {line}")


def _parse_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text}: give I/N with I from 1 to N, for example 1/4")
    return int(number), int(count)


def _show(bar: ProgressBar, progress: Progress) -> None:
    text = f"{progress.num_done} of {progress.num_tasks} tasks"
    if progress.num_failed:
        text += f", {progress.num_failed} failed"
    bar.update(progress.num_done / max(progress.num_tasks, 1), "measuring", text, progress.remaining_s)


app.command("compare")(reporting.compare)
app.command("report")(reporting.report)

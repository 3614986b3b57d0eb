"""Many files into a folder: which file becomes which, all of them side by side, and what came of each.

An output that exists counts as done and is skipped: files appear whole or not at all, so running a stopped
batch again does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import typer

from vcframe.bench.provenance import num_cores
from vcframe.cli.common import INTERRUPTED, STANDARD_STREAM, ProgressBar, fail, note, print_json
from vcframe.codec import UsageError, VcframeError

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...", help="Files, folders, globs, or - for standard input.", show_default=False
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Files at a time, one per core if not given; no byte depends on it.",
        show_default=False,
    ),
]

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One file of a batch."""

    source: Path
    stem: Path
    """The output less its extension."""
    existing: Path | None
    """An output that is there already."""

    def target(self, extension: str) -> Path:
        """The output with its extension; makes its folder."""
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        return self.stem.with_name(self.stem.name + extension)


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of a file: a result, or why there is none, or neither where it was done before."""

    task: Task
    result: T | None
    failure: Exception | None
    seconds: float

    @property
    def status(self) -> Literal["done", "failed", "skipped"]:
        """What happened."""
        if self.failure is not None:
            return "failed"
        return "skipped" if self.result is None else "done"


@dataclass(frozen=True)
class Batch(Generic[T]):
    """What came of all files that were begun, in their order."""

    outcomes: list[Outcome[T]]
    num_tasks: int
    interrupted: bool

    def of(self, status: str) -> list[Outcome[T]]:
        """The outcomes of one status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def done(self) -> list[tuple[Outcome[T], T]]:
        """The files that were done, with their results."""
        return [(outcome, outcome.result) for outcome in self.outcomes if outcome.result is not None]


def is_batch(sources: Sequence[str], out: Path) -> bool:
    """Whether the output is a folder: for several files, a folder or a glob, or where one is named."""
    several = len(sources) > 1 or any(_is_glob(source) or Path(source).is_dir() for source in sources)
    return str(out) != STANDARD_STREAM and (several or out.is_dir())


def plan(
    sources: Sequence[str],
    out: Path,
    extensions: Collection[str],
    force: bool,
    accepts: Collection[str] | None = None,
) -> list[Task]:
    """Find the files and name their outputs in the folder `out`: the trees of folders and globs are kept.

    The outputs will have one of `extensions`; `accepts` is as for `find_images`. Refuses, before any work is
    done, two files that would become one, and a file that would overwrite itself.
    """
    from vcframe.images import find_images

    if STANDARD_STREAM in sources:
        raise UsageError("standard input (-) is one picture: give it alone, and a file or - to write to")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder for the output of several files")
    by_stem: dict[Path, Path] = {}
    for source in sources:
        base = _base(source)
        found = find_images([source], accepts)
        if base.resolve() != out.resolve():  # what an earlier run wrote below the folder is no input
            found = [path for path in found if out.resolve() not in path.resolve().parents]
        for path in found:
            stem = (out / path.relative_to(base)).with_suffix("")
            if by_stem.setdefault(stem, path) != path:
                raise UsageError(
                    f"{by_stem[stem]} and {path} would both become {stem}.*: "
                    "rename one, or write them to different folders"
                )
    return [_task(path, stem, extensions, force) for stem, path in by_stem.items()]


def run(
    tasks: Sequence[Task], work: Callable[[Task], T], jobs: int | None, phase: str, networks: bool
) -> Batch[T]:
    """Do the work of every task in `jobs` threads; a file that fails is an outcome and stops nothing.

    Codecs release the interpreter's lock and networks are shared, so threads serve. On Ctrl-C the files under
    way are finished, and no other is begun.
    """
    todo = [task for task in tasks if task.existing is None]
    jobs = min(jobs or num_cores(), max(len(todo), 1))
    outcomes = [Outcome[T](task, None, None, 0.0) for task in tasks if task.existing is not None]
    interrupted = False
    # Each thread's networks would otherwise take all cores.
    share = (max(1, num_cores() // jobs),) if networks and jobs > 1 else ()
    with ProgressBar() as bar, ThreadPoolExecutor(jobs, initializer=_use_cores, initargs=share) as pool:
        futures = [pool.submit(_attempt, work, task) for task in todo]
        try:
            _watch(futures, bar, phase)
        except KeyboardInterrupt:
            interrupted = True
            note("interrupted: finishing the files under way")
            pool.shutdown(cancel_futures=True)
    outcomes += [f.result() for f in futures if not f.cancelled() and f.exception() is None]
    order = {task: index for index, task in enumerate(tasks)}
    return Batch(sorted(outcomes, key=lambda o: order[o.task]), len(tasks), interrupted)


def finish(ctx: typer.Context, batch: Batch[Any]) -> None:
    """Name what was skipped and what failed, and end with the exit status: 1 where any file failed."""
    if skipped := batch.of("skipped"):
        note(f"{len(skipped)} skipped, which exist already (--force writes them again)")
    failed = batch.of("failed")
    for outcome in failed:
        note(f"failed: {_reason(outcome)}")
    if batch.interrupted:
        done = f"{len(batch.done)} of {batch.num_tasks} files done"
        fail(ctx, f"interrupted: {done}; the same command does the rest", INTERRUPTED)
    if failed:
        fail(ctx, f"{len(failed)} of {batch.num_tasks} files failed", 1)


def print_batch_json(batch: Batch[Any]) -> None:
    """The results, and the files skipped and failed, as JSON."""
    print_json(
        {
            "files": [
                {"source": str(outcome.task.source), **result.to_json(), "seconds": round(outcome.seconds, 3)}
                for outcome, result in batch.done
            ],
            "skipped": [str(outcome.task.existing) for outcome in batch.of("skipped")],
            "failed": [
                {"source": str(outcome.task.source), "error": _reason(outcome)}
                for outcome in batch.of("failed")
            ],
            "interrupted": batch.interrupted,
        }
    )


def _attempt(work: Callable[[Task], T], task: Task) -> Outcome[T]:
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = work(task)
    except Exception as error:  # whatever a library raises on one file is that file's outcome
        failure = error
    return Outcome(task, result, failure, time.perf_counter() - started)


def _watch(futures: Sequence[Future[Outcome[T]]], bar: ProgressBar, phase: str) -> None:
    """Show how far the work is and how fast, until all is done."""
    started, num_bytes = time.perf_counter(), 0
    for count, future in enumerate(as_completed(futures), 1):
        source = future.result().task.source
        num_bytes += source.stat().st_size if source.exists() else 0
        rate = num_bytes / 1e6 / (time.perf_counter() - started)
        bar.update(count / len(futures), phase, f"{count} of {len(futures)} files, {rate:.2f} MB/s read")


def _use_cores(share: int | None = None) -> None:
    """Limit the cores that this thread's networks take."""
    if share is not None:
        import torch

        torch.set_num_threads(share)


def _task(source: Path, stem: Path, extensions: Collection[str], force: bool) -> Task:
    targets = [stem.with_name(stem.name + extension) for extension in extensions]
    existing = [target for target in targets if target.exists()]
    if any(target.samefile(source) for target in existing):
        raise UsageError(f"{source} would be overwritten by its own output: name another folder")
    return Task(source, stem, existing[0] if existing and not force else None)


def _base(source: str) -> Path:
    """The folder below which the tree is kept: the one named, a file's own, a glob's before any wildcard."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if not _is_glob(source):
        return path.parent
    parts = path.parts[: next(i for i, part in enumerate(path.parts) if has_magic(part))]
    return Path(*parts)


def _is_glob(source: str) -> bool:
    return has_magic(source) and not Path(source).expanduser().exists()


def _reason(outcome: Outcome[Any]) -> str:
    """One line that names the file."""
    error = outcome.failure
    text = " ".join(str(error).split())
    if not isinstance(error, VcframeError):
        text = f"{type(error).__name__}: {text}"
    source = str(outcome.task.source)
    return text if source in text else f"{source}: {text}"

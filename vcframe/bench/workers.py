"""Worker processes on this machine: one task at a time each; one that dies or hangs costs one row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

from vcframe.bench.measuring import Bench, Job
from vcframe.bench.rows import Row, Task
from vcframe.codec import VcframeError
from vcframe.memory import keep_freed_memory

_PROCESSES = multiprocessing.get_context("spawn")
"""Forked, a process would inherit the locks of this one's threads."""


def run_tasks(job: Job, tasks: Sequence[Task], num_workers: int) -> Generator[Row]:
    """Measure every task in `num_workers` processes; rows come in the order of finishing."""
    todo = iter(tasks)
    workers = [_Worker(job) for _ in range(min(num_workers, len(tasks)))]
    try:
        busy = [worker for worker in workers if worker.start(next(todo, None))]
        while busy:
            wait([worker.pipe for worker in busy], timeout=min(worker.time_left_s for worker in busy))
            for worker in [worker for worker in busy if worker.is_done]:
                yield worker.take()
                if not worker.start(next(todo, None)):
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process, and the task that it has."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._spawn()

    def _spawn(self) -> None:
        self.pipe, theirs = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(theirs, self.job), daemon=True)
        with _environment(thread_variables(self.job.num_threads)):
            self.process.start()
        theirs.close()  # or the end of the process would not end the pipe
        self.is_new = True

    def start(self, task: Task | None) -> bool:
        """Begin a task; False where there is none."""
        if task is None:
            return False
        if not self.process.is_alive():
            self._spawn()
        if self.is_new:
            self._await_ready()
        self.task, self.deadline = task, time.monotonic() + self.job.suite.task_limit_s
        self.pipe.send(task)
        return True

    def _await_ready(self) -> None:
        """Loading plugins and libraries is no part of a task's time."""
        try:
            self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise VcframeError(f"{_end(self.process.exitcode or 0)} before its first task") from None
        self.is_new = False

    @property
    def time_left_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @property
    def is_done(self) -> bool:
        return self.pipe.poll() or not self.time_left_s

    def take(self) -> Row:
        """The row of the task; of a process that died or is late, a failure."""
        if not self.pipe.poll():
            self.stop()
            return Row(self.task, error=f"took longer than {self.job.suite.task_limit_s:g} s")
        try:
            row: Row = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return Row(self.task, error=_end(self.process.exitcode or 0))
        return row

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()


def thread_variables(num_threads: int) -> dict[str, str]:
    """Environment of a process that takes so many threads: libraries read it when they are loaded."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"
    return dict.fromkeys(names, str(num_threads))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """What processes that are started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end(status: int) -> str:
    if status < 0:
        return f"the worker process was ended by signal {signal.Signals(-status).name}"
    return f"the worker process ended with status {status}"


def _serve(pipe: Connection, job: Job) -> None:
    """Measure what comes, until the other end is closed: by its will or by its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    keep_freed_memory()  # as the command line does
    bench = Bench(job)
    pipe.send(None)
    with suppress(EOFError, ConnectionError):
        while True:
            task = pipe.recv()
            row = bench.row(task)
            pipe.send(row)

"""Workers on a Ray cluster: an actor each, one task at a time; one that dies or hangs costs one row.

Pictures travel through Ray's object store. vcframe, plugin files and model files must be on every machine at
the same place, and so must the run's folder where the suite keeps the coded files.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vcframe.bench.extra import library
from vcframe.bench.measuring import Bench, Job
from vcframe.bench.rows import Row, Task
from vcframe.bench.workers import thread_variables
from vcframe.codec import UsageError, VcframeError

LOCAL = "local"
"""Address that starts a cluster on this machine, for as long as it is used."""


@dataclass(frozen=True)
class Cluster:
    """What a cluster offers."""

    node_cpus: tuple[int, ...]
    """By machine."""

    @property
    def num_nodes(self) -> int:
        return len(self.node_cpus)

    def num_workers(self, num_threads: int) -> int:
        """How many workers run at once; `UsageError` where no machine has so many CPUs as one needs."""
        count = sum(cpus // num_threads for cpus in self.node_cpus)
        if not count:
            raise UsageError(f"no machine of the Ray cluster has the {num_threads} CPUs that a worker needs")
        return count


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Be connected to a Ray cluster: `auto` finds it as Ray does, `local` starts one here, or `HOST:PORT`.

    Raises `UsageError` where there is none, and where Ray is not installed.
    """
    # Ray reads these when it is imported. Without the first it prints on standard output that a worker died,
    # log_to_driver or not; there is a row for that.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _ray()
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    local = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _check_port(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # Ray raises the plain kind too
        where = "here" if address == "auto" else f"at {address}"
        reason = " ".join(str(error).split())
        raise UsageError(
            f"no Ray cluster {where} ({reason}): start one with `ray start --head`, or give --address {LOCAL}"
        ) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Cluster(tuple(int(resources.get("CPU", 0)) for resources in nodes))
    finally:
        ray.shutdown()


def run_tasks(job: Job, tasks: Sequence[Task], num_workers: int) -> Generator[Row]:
    """Measure every task in `num_workers` actors; rows come in the order of finishing.

    Actors for which the cluster has no place yet wait, and the others do their work.
    """
    ray, todo, num_left = _ray(), iter(tasks), len(tasks)
    picture = functools.cache(lambda name: ray.put(job.paths[name].read_bytes()))
    workers = [_Worker(replace(job, paths={})) for _ in range(min(num_workers, len(tasks)))]
    busy = list(workers)
    try:
        while num_left:
            patience_s = min(60.0, *(worker.time_left_s for worker in busy))  # Ray takes no infinite one
            done, _ = ray.wait([worker.doing for worker in busy], timeout=patience_s)
            for worker in [worker for worker in busy if worker.doing in done or not worker.time_left_s]:
                row = worker.take()
                if row is not None:
                    num_left -= 1
                    yield row
                if worker.is_ready:
                    task = next(todo, None)
                    if task is None:
                        busy.remove(worker)
                    else:
                        worker.start(task, picture(task.image))
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One actor, and what it does: its task, or else loading, which is no part of a task's time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._spawn()

    def _spawn(self) -> None:
        num_threads = self.job.num_threads
        # They are in the actor's process before it loads a library; vcframe's own say where models are.
        own = {name: value for name, value in os.environ.items() if name.startswith("VCFRAME_")}
        environment = {"env_vars": own | thread_variables(num_threads)}
        self.actor = _ray().remote(num_cpus=num_threads, runtime_env=environment)(_Actor).remote()
        self.task: Task | None = None
        self.deadline, self.is_ready = math.inf, False
        self.doing = self.actor.load.remote(self.job)

    def start(self, task: Task, picture: Any) -> None:
        """Begin a task."""
        self.task, self.deadline = task, time.monotonic() + self.job.suite.task_limit_s
        self.doing = self.actor.row.remote(task, picture)

    @property
    def time_left_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def take(self) -> Row | None:
        """The row of the task, None after loading; of an actor that died or is late, a failure."""
        errors, task = _ray().exceptions, self.task
        try:
            row: Row | None = _ray().get(self.doing, timeout=0)
        except errors.GetTimeoutError:
            reason = f"took longer than {self.job.suite.task_limit_s:g} s"
        except errors.RayTaskError as error:
            reason = f"{type(error.cause).__name__}: {error.cause}"
        except errors.RayError as error:
            reason = f"the worker process ended ({type(error).__name__})"
            if task is None:
                reason += ": " + str(error).strip().rpartition("\n")[2]
        else:
            self.is_ready = True
            return row
        if task is None:
            raise VcframeError(f"a worker failed before its first task: {reason}")
        self.stop()
        self._spawn()
        return Row(task, error=reason)

    def stop(self) -> None:
        """End the actor, whatever it does."""
        _ray().kill(self.actor)


class _Actor:
    """The far end."""

    def load(self, job: Job) -> None:
        self.bench = Bench(job)

    def row(self, task: Task, picture: bytes) -> Row:
        # An actor is killed without notice: what it held on the disk for longer would stay there.
        with TemporaryDirectory() as folder:
            path = Path(folder, Path(task.image).name)
            path.write_bytes(picture)
            self.bench.job = replace(self.bench.job, paths={task.image: path})
            return self.bench.row(task)


def _ray() -> Any:
    return library("ray", extra="ray")


def _check_port(address: str) -> None:
    """Ray itself takes minutes to find that nothing answers."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()

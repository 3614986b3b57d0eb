"""The same tasks on a Ray cluster that is running already, in place of processes on this machine.

Pictures, models and the run's folder are on paths that every machine of the cluster sees.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from vcframe.bench.measuring import Bench, Job
from vcframe.bench.rows import Row, Task
from vcframe.bench.workers import thread_variables
from vcframe.codec import UsageError, VcframeError


def run_tasks_on_ray(job: Job, tasks: Sequence[Task], num_workers: int) -> Generator[Row]:
    """As `workers.run_tasks`, in `num_workers` actors of the cluster that `ray start` made.

    Raises `UsageError` where Ray or the cluster is missing, and `VcframeError` where an actor dies: the rows
    so far are on disk, and the same command does the rest.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'vcframe[ray]'") from None
    try:
        ray.init(address="auto", ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise UsageError("--engine ray finds no cluster: begin one with `ray start --head`") from error
    variables = thread_variables(job.num_threads)
    actor = ray.remote(num_cpus=job.num_threads, runtime_env={"env_vars": variables})(Bench)
    try:
        pool = ActorPool([actor.remote(job) for _ in range(min(num_workers, len(tasks)))])
        yield from pool.map_unordered(lambda bench, task: bench.row.remote(task), tasks)
    except ray.exceptions.RayError as error:
        line = str(error).strip().splitlines()[-1]
        raise VcframeError(f"a worker on the cluster failed: {line}; the same command continues") from error

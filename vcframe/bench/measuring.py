"""One task, measured: a picture through a system, with the clock on each part."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vcframe.bench.methods import System, Workshop
from vcframe.bench.plan import suite_codecs
from vcframe.bench.rows import Row, Task
from vcframe.bench.suite import Suite
from vcframe.codec import Image, VcframeError
from vcframe.images import luma, read_image, write_bytes
from vcframe.metrics import METRICS
from vcframe.registry import Registry
from vcframe.stream import unpack
from vcframe.ways import Compressed, Way, decode_description


@dataclass(frozen=True)
class Job:
    """What a worker process is told once, before its tasks; it may be pickled."""

    suite: Suite
    paths: Mapping[str, Path]
    """Of the pictures, by name."""
    metrics: tuple[str, ...]
    references: tuple[str, ...] = ()
    """Models that the user named."""
    plugin_files: tuple[Path, ...] = ()
    num_threads: int = 1
    """Of the networks and of OpenMP and OpenCV in each worker process."""
    files: Path | None = None
    """Folder for the coded files; None where they are not kept."""


@dataclass
class Clock:
    """Seconds of a monotonic clock by the name of the part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Time one part."""
        started = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - started


class Bench:
    """What a worker process holds: plugins, models and systems, loaded when a task first asks for them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        _pin_threads(job.num_threads)
        registry = Registry.load(job.plugin_files)
        self._shop = Workshop(registry, job.suite.channels == 1, job.references)
        self._codecs = suite_codecs(job.suite, registry)
        self._systems: dict[tuple[str, str], list[System]] = {}

    def row(self, task: Task) -> Row:
        """Measure; whatever is raised makes a row with the reason."""
        try:
            return self._measured(task)
        except Exception as error:  # libraries raise nearly anything
            text = " ".join(str(error).split())
            return Row(task, error=text if isinstance(error, VcframeError) else f"{type(error).__name__}: {text}")

    def _measured(self, task: Task) -> Row:
        image = read_image(self.job.paths[task.image])
        image = luma(image) if self.job.suite.channels == 1 else image
        system = self._system(task)
        way = Way(image, system.codec, system.model, system.scale)
        clock = Clock()
        coded = _encode(way, task.quality, clock)
        restored = _decode(way, coded.data, clock)
        if self.job.files is not None and task.repeat == 0:
            write_bytes(self.job.files / kept_name(task, system.codec.extension), coded.data)
        values = {name: METRICS[name].measure(image, restored) for name in self.job.metrics}
        return Row(
            task,
            *image.shape[:2],
            num_bytes=coded.num_bytes,
            # A picture may be too small for a metric: no number, and NaN is none in JSON.
            metrics={name: value for name, value in values.items() if not math.isnan(value)},
            **(clock.seconds if self.job.suite.timing else {}),
            peak_bytes=_peak_bytes(),
        )

    def _system(self, task: Task) -> System:
        key = task.codec, task.method
        if key not in self._systems:
            self._systems[key] = self._shop.systems(task.method, task.codec, self._codecs[task.codec])
        for system in self._systems[key]:
            if system.scale == task.scale and system.quality in (None, task.quality):
                assert system.codec.config() == task.config, (system.codec, task.config)
                return system
        raise AssertionError(f"no system for {task}")


def kept_name(task: Task, extension: str) -> str:
    """Name of the coded file of a task in a run's folder."""
    return hashlib.sha256(replace(task, repeat=0).key.encode()).hexdigest()[:16] + extension


def _encode(way: Way, quality: float, clock: Clock) -> Compressed:
    if way.model is None:
        description = way.describe(quality)
    else:
        with clock.on("describe_s"):
            description = way.describe(quality)
    with clock.on("encode_s"):
        return way.code(description, quality)


def _decode(way: Way, data: bytes, clock: Clock) -> Image:
    """What the file restores to, from its own payload."""
    if way.model is None:
        with clock.on("decode_s"):
            return way.restore(data)
    with clock.on("decode_s"):
        unpacked = unpack(data, [way.codec])
        assert unpacked is not None
        decoded = decode_description(unpacked, way.codec)
    height, width = way.image.shape[:2]
    with clock.on("restore_s"):
        return way.model.restore(decoded, unpacked.payload.unit, unpacked.payload.scale, (height, width))


def _pin_threads(num_threads: int) -> None:
    """Before any library that reads these starts its threads."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(num_threads)
    import cv2
    import torch

    torch.set_num_threads(num_threads)
    cv2.setNumThreads(num_threads)


def _peak_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else 1024 * peak

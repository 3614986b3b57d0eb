"""One task, measured: a picture through a system, with the clock on each part."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vcframe.bench.methods import System, Workshop
from vcframe.bench.metrics import all_metrics
from vcframe.bench.plan import suite_codecs
from vcframe.bench.rows import Row, Task
from vcframe.bench.suite import Suite
from vcframe.codec import Image, VcframeError
from vcframe.images import luma, read_image, write_bytes
from vcframe.registry import Registry
from vcframe.stream import unpack
from vcframe.ways import Compressed, Way, decode_description, restore_decoded

T = TypeVar("T")


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
    """Of OpenMP and the like in each worker process, and so of the networks; codecs take one anyway."""
    files: Path | None = None
    """Folder for the coded files; None where they are not kept."""


WARM_UP_SIDE = 128


class Bench:
    """What a worker process holds: plugins, models and systems, loaded when a task first asks for them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        registry = Registry.load(job.plugin_files)
        self._shop = Workshop.open(registry, job.suite.channels == 1, job.references)
        self._codecs = suite_codecs(job.suite, registry)
        self._metrics = [all_metrics(registry)[name] for name in job.metrics]
        self._systems: dict[tuple[str, str], list[System]] = {}
        self._warm: set[tuple[str, str, int | None]] = set()

    def row(self, task: Task) -> Row:
        """Measure; whatever is raised makes a row with the reason."""
        try:
            return self._measured(task)
        except Exception as error:  # libraries raise nearly anything
            kind = "" if isinstance(error, VcframeError) else f"{type(error).__name__}: "
            return Row(task, error=kind + " ".join(str(error).split()))

    def _measured(self, task: Task) -> Row:
        image = read_image(self.job.paths[task.image])
        image = luma(image) if self.job.suite.channels == 1 else image
        system = self._system(task)
        way = Way(image, system.codec, system.model, system.scale)
        self._warm_up(way, task)
        coded, times = _encode(way, task.quality)
        restored, times = _decode(way, coded.data, times)
        if self.job.files is not None and task.repeat == 0:
            write_bytes(self.job.files / kept_name(task, system.codec.extension), coded.data)
        values = {metric.name: metric.measure(image, restored) for metric in self._metrics}
        height, width = image.shape[:2]
        row = Row(
            task,
            height,
            width,
            num_bytes=coded.num_bytes,
            # A picture may be too small for a metric: no number, and NaN is none in JSON.
            metrics={name: value for name, value in values.items() if not math.isnan(value)},
            peak_bytes=_peak_bytes(),
        )
        return replace(row, **times) if self.job.suite.timing else row

    def _warm_up(self, way: Way, task: Task) -> None:
        """Code a corner once before the first time is taken: libraries load when they are first called."""
        key = task.codec, task.method, task.scale
        if self.job.suite.timing and key not in self._warm:
            self._warm.add(key)
            corner = replace(way, image=np.ascontiguousarray(way.image[:WARM_UP_SIDE, :WARM_UP_SIDE]))
            _decode(corner, _encode(corner, task.quality)[0].data, {})

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


Times = dict[str, Any]
"""Seconds by the fields of a row."""


def _encode(way: Way, quality: float) -> tuple[Compressed, Times]:
    """The file, and the seconds of each part."""
    description, describe_s = _timed(lambda: way.describe(quality))
    coded, encode_s = _timed(lambda: way.code(description, quality))
    if way.model is None:
        return coded, {"encode_s": encode_s}
    adapted, adapt_s = _timed(lambda: coded.adapted)
    return adapted, {"describe_s": describe_s + adapt_s, "encode_s": encode_s}


def _decode(way: Way, data: bytes, times: Times) -> tuple[Image, Times]:
    """What the file restores to, from its own payload, and the seconds of all parts so far."""
    model = way.model
    if model is None:
        restored, decode_s = _timed(lambda: way.restore(data))
        return restored, times | {"decode_s": decode_s}
    unpacked = unpack(data, [way.codec])
    assert unpacked is not None
    decoded, decode_s = _timed(lambda: decode_description(unpacked, way.codec))
    payload, (height, width) = unpacked.payload, way.image.shape[:2]
    restored, restore_s = _timed(lambda: restore_decoded(decoded, payload, model, (height, width)))
    return restored, times | {"decode_s": decode_s, "restore_s": restore_s}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """A result, and the seconds of a monotonic clock that it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _peak_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else 1024 * peak

"""The plan of a run: every task of a suite, before any of them runs."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcframe.bench.methods import System, Workshop, methods
from vcframe.bench.metrics import all_metrics
from vcframe.bench.rows import Task
from vcframe.bench.sets import ImageSet, SetFile, find_set, local_files
from vcframe.bench.suite import Suite, SuiteCodec, SuiteImages
from vcframe.codec import PluginError, UsageError, VcframeError
from vcframe.registry import Registry, near, unavailable_reason

SECONDS_PER_MEGAPIXEL = {"fast": 0.1, "medium": 0.8, "slow": 3.0}
"""To encode and decode, by `Traits.speed`; for the estimate before a run, which knows nothing better."""
NETWORKS_PER_MEGAPIXEL = 2.0
METRICS_PER_MEGAPIXEL = 0.5


@dataclass(frozen=True)
class Plan:
    """What a run does, and what it cannot do."""

    suite: Suite
    tasks: tuple[Task, ...]
    paths: Mapping[str, Path]
    """By name of the picture, `set/file`."""
    metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    """Of these."""
    models: Mapping[str, dict[str, Any]]
    """Id and card by `label/method`, `label/method@quality` for a model of one quality."""
    codec_versions: Mapping[str, str]
    """By label."""
    left_out: tuple[str, ...]
    """One line each: codecs, methods and metrics that cannot run here, and why."""
    cost_s: float
    """A rough guess at the seconds that the tasks take one after another."""

    @property
    def digest(self) -> str:
        """SHA-256 over all tasks: two runs of one digest measure the same."""
        return hashlib.sha256("\n".join(sorted(task.key for task in self.tasks)).encode()).hexdigest()

    def shard(self, number: int, count: int) -> list[Task]:
        """Part `number` (from 1) of `count`, in the order of running.

        The order is random, so that whatever disturbs the machine for a while meets all systems alike, and
        the same for every shard and whenever the run is continued.
        """
        if not 1 <= number <= count:
            raise UsageError(f"shard {number}/{count}: give i/n with i in 1..n")
        shuffled = sorted(self.tasks, key=lambda task: task.key)
        random.Random(self.digest).shuffle(shuffled)
        return shuffled[number - 1 :: count]


def make_plan(
    suite: Suite, registry: Registry, folder: Path | None = None, references: Sequence[str] = ()
) -> Plan:
    """List the tasks of a suite; `folder` holds its pictures, `references` are models that the user named.

    Raises `UsageError` for an unknown method, metric, set or quality, for pictures that are missing or differ
    from the set's digests, and where nothing is left to run.
    """
    left_out: list[str] = []
    metrics = tuple(_available_metrics(suite, registry, left_out))
    paths, digests = _pictures(suite, folder)
    shop = Workshop.open(registry, suite.channels == 1, references)
    tasks: list[Task] = []
    models: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    seconds = 0.0
    megapixels = sum(map(_megapixels, paths.values()))
    for label, entry in suite_codecs(suite, registry).items():
        for method, systems in _systems(suite, shop, label, entry, left_out):
            for system in systems:
                qualities = _qualities(suite, label, entry, system)
                repeats = range(suite.repeats)
                tasks += [
                    Task(name, sha256, label, system.codec.config(), method, system.scale, quality, repeat)
                    for name, sha256 in digests.items()
                    for quality in qualities
                    for repeat in repeats
                ]
                seconds += megapixels * len(qualities) * len(repeats) * _cost(system)
                versions[label] = system.codec.version()
                if system.model is not None:
                    one = "" if system.quality is None else f"@{system.quality:g}"
                    models[f"{label}/{method}{one}"] = system.about()
    if not tasks:
        raise UsageError(f"suite {suite.name}: nothing can run here; {'; '.join(left_out)}")
    lower = tuple(name for name in metrics if all_metrics(registry)[name].better == "lower")
    return Plan(suite, tuple(tasks), paths, metrics, lower, models, versions, tuple(left_out), seconds)


def suite_codecs(suite: Suite, registry: Registry) -> dict[str, SuiteCodec]:
    """The suite's codecs by label; every installed one that runs here, where the suite names none."""
    if suite.codecs is not None:
        return dict(suite.codecs)
    usable = [name for name, r in registry.codecs.items() if unavailable_reason(r.codec()) is None]
    return {name: SuiteCodec() for name in usable}


def _available_metrics(suite: Suite, registry: Registry, left_out: list[str]) -> Iterator[str]:
    known = all_metrics(registry)
    for name in suite.metrics:
        if name not in known:
            hint = near(name, {known_name: known_name for known_name in known})
            raise UsageError(f"suite {suite.name}: unknown metric {name!r}{hint}; known: {', '.join(known)}")
        reason = known[name].unavailable()
        if reason is None:
            yield name
        else:
            left_out.append(f"metric {name}: {reason}")


def _pictures(suite: Suite, folder: Path | None) -> tuple[dict[str, Path], dict[str, str]]:
    """Path and digest of every picture by its name, `set/file`."""
    paths: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for part in suite.images:
        image_set = _image_set(suite, part)
        for file, path in zip(
            image_set.files, local_files(image_set, _folder(suite, part, folder)), strict=True
        ):
            paths[f"{part.set}/{file.name}"] = path
            digests[f"{part.set}/{file.name}"] = file.sha256
    return paths, digests


def _folder(suite: Suite, part: SuiteImages, named: Path | None) -> Path | None:
    """Where the pictures are: beside the suite, or where the user says, each set in a folder of its name."""
    if part.folder is not None:
        return suite.origin / part.folder
    return named / part.set if named is not None and (named / part.set).is_dir() else named


def _image_set(suite: Suite, part: SuiteImages) -> ImageSet:
    """The set with the files that the suite takes of it."""
    if isinstance(part.files, dict):
        files = tuple(SetFile(name, 0, sha256, "") for name, sha256 in part.files.items())
        return ImageSet(part.set, part.title, part.source, part.licence, None, files)
    known = find_set(part.set)
    if part.files is None:
        return known
    by_name = {file.name: file for file in known.files}
    if missing := [name for name in part.files if name not in by_name]:
        raise UsageError(f"suite {suite.name}: set {part.set} has no file {missing[0]!r}")
    return dataclasses.replace(known, files=tuple(by_name[name] for name in part.files))


def _systems(
    suite: Suite, shop: Workshop, label: str, entry: SuiteCodec, left_out: list[str]
) -> Iterator[tuple[str, list[System]]]:
    """The systems of every method; a codec or method that cannot run here is left out with the reason."""
    known = methods(shop.registry)
    if unknown := [method for method in suite.methods if method not in known]:
        hint = near(unknown[0], {name: name for name in known})
        raise UsageError(
            f"suite {suite.name}: unknown method {unknown[0]!r}{hint}; known: {', '.join(known)}"
        )
    try:
        shop.codec(label, entry)
    except PluginError as error:
        left_out.append(f"{label}: {error}")
        return
    reasons: dict[str, list[str]] = {}
    for method in suite.methods:
        try:
            yield method, shop.systems(method, label, entry)
        except VcframeError as error:
            reasons.setdefault(str(error), []).append(method)
    left_out += [f"{label}, {' and '.join(names)}: {reason}" for reason, names in reasons.items()]


def _qualities(suite: Suite, label: str, entry: SuiteCodec, system: System) -> list[float]:
    """Where a system is measured: numbers of the codec's own scale, worst first, each once."""
    scale = system.codec.quality_scale
    asked = entry.qualities
    if system.scale is not None and system.scale > 1 and entry.half_qualities is not None:
        asked = entry.half_qualities
    if isinstance(asked, tuple):
        try:
            qualities = [scale.check(quality) for quality in asked]
        except UsageError as error:
            raise UsageError(f"suite {suite.name}: codecs.{label}: {error}") from error
    else:
        count = suite.qualities if asked is None else asked
        units = count if isinstance(count, tuple) else [i / (count - 1) for i in range(count)]
        qualities = [scale.native(unit) for unit in units]
    if system.quality is not None:
        qualities = [quality for quality in qualities if quality == system.quality]
    return sorted(set(qualities), key=scale.unit)


def _megapixels(path: Path) -> float:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.width * picture.height / 1e6


def _cost(system: System) -> float:
    """Seconds per megapixel, roughly."""
    networks = 0.0 if system.model is None else NETWORKS_PER_MEGAPIXEL
    return SECONDS_PER_MEGAPIXEL[system.codec.traits.speed] + networks + METRICS_PER_MEGAPIXEL

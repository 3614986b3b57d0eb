"""Train one system for each of several scales and put them into one model file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from vcframe.images import write_bytes
from vcframe.learning.config import TrainConfig
from vcframe.learning.loop import MODEL, REPORT, Progress, TrainResult, fit
from vcframe.model import Model
from vcframe.registry import Registry


def fit_scales(
    config: TrainConfig, scales: Sequence[int], registry: Registry, on_progress: Callable[[Progress], None]
) -> TrainResult:
    """Train the scales one after the other, each for its equal share of the time, in a folder of its own.

    A single scale is an ordinary `fit`. Of several, `config.out` receives `model.safetensors`, which serves
    all of them, and `report.json`, the runs' reports by scale. The same call continues an interrupted run.
    Raises what `fit` raises.
    """
    share = len(scales)
    if share == 1:
        return fit(config.model_copy(update={"scale": scales[0]}), registry, on_progress)
    models: list[Model] = []
    reports: dict[str, Any] = {}
    for index, scale in enumerate(scales):

        def in_all(progress: Progress, index: int = index, scale: int = scale) -> None:
            later = share - index - 1
            remaining = progress.remaining_s
            if remaining is not None:
                remaining += later * (progress.elapsed_s + remaining)
            fraction = (index + progress.fraction) / share
            phase = f"scale {scale} {progress.phase}" if progress.step else progress.phase
            on_progress(dataclasses.replace(progress, fraction=fraction, remaining_s=remaining, phase=phase))

        part = config.model_copy(
            update={
                "scale": scale,
                "out": config.out / f"scale-{scale}",
                "minutes": config.minutes and config.minutes / share,
                "steps": config.steps and config.steps // share,
            }
        )
        result = fit(part, registry, in_all)
        models.append(Model.load(result.model_path))
        reports[str(scale)] = result.report
    model = Model.joined(models)
    model.save(config.out / MODEL)
    report = {"model": model.id, "scales": reports}
    write_bytes(config.out / REPORT, json.dumps(report, indent=1).encode())
    return TrainResult(config.out / MODEL, report)

"""The numbers of a report for other programs: every row, every delta, and the summary."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from vcframe.bench.analysis import CONVENTION, Analysis
from vcframe.bench.extra import library
from vcframe.bench.runs import Run

SUMMARY_SCHEMA = "vcframe-benchmark-summary"
SUMMARY_SCHEMA_VERSION = 1


def rows_csv(run: Run) -> bytes:
    """A line for each task, failures included; metrics in columns of their own name."""
    return _csv(_flat_rows(run))


def rows_parquet(run: Run) -> bytes:
    """The same as one Parquet file."""
    pyarrow, parquet = library("pyarrow"), library("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(_flat_rows(run)), file, compression="zstd")
    return file.getvalue()


def deltas_csv(analysis: Analysis) -> bytes:
    """A line for each picture of each comparison; without a number, the reason."""
    return _csv(
        {
            "codec": c.system.codec,
            "method": c.system.method,
            "anchor": str(c.anchor),
            "metric": c.metric,
            "range": c.range,
            "image": image,
            "bd_rate_percent": c.rates[image].value,
            "bd_gain_db": c.gains[image].value,
            "reason": c.rates[image].reason,
        }
        for c in analysis.comparisons
        for image in c.rates
    )


def summary_json(analysis: Analysis) -> bytes:
    """Provenance, the distribution of every comparison, times."""
    content = {
        "schema": SUMMARY_SCHEMA,
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "convention": CONVENTION,
        "run": analysis.run.about,
        "images": analysis.images,
        "num_failures": len(analysis.run.failures),
        "comparisons": [
            {
                "system": asdict(c.system),
                "anchor": asdict(c.anchor),
                "metric": c.metric,
                "range": c.range,
                "bd_rate_percent": asdict(c.rate),
                "bd_gain_db": asdict(c.gain),
            }
            for c in analysis.comparisons
        ],
        "speeds": [asdict(speed) for speed in analysis.speeds],
    }
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def _flat_rows(run: Run) -> list[dict[str, Any]]:
    """Rows as flat mappings that all have the same keys, in the order of the tasks."""
    metrics = sorted({name for row in run.measured for name in row.metrics})
    flat = []
    for row in sorted(run.rows, key=lambda row: row.task.key):
        fields = asdict(row)
        task, values = fields.pop("task"), fields.pop("metrics")
        task["config"] = json.dumps(task["config"], sort_keys=True)
        measured = {name: values.get(name) for name in metrics}
        flat.append({**task, **fields, "bpp": row.bpp, **{k: _finite(v) for k, v in measured.items()}})
    return flat


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()

"""A run folder as `vcframe bench run` leaves it: `run.json` about the whole, `rows.jsonl` with every task."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vcframe.bench.rows import Row
from vcframe.bench.store import ROWS, latest_rows, read_about, read_rows
from vcframe.codec import UsageError


@dataclass(frozen=True)
class Run:
    """What was asked for, and the finished tasks, each once."""

    folder: Path
    about: dict[str, Any]
    """`run.json`: suite, command, versions, machine, commit, models, metrics."""
    rows: tuple[Row, ...]

    @functools.cached_property
    def measured(self) -> tuple[Row, ...]:
        """The tasks that succeeded."""
        return tuple(row for row in self.rows if row.error is None)

    @functools.cached_property
    def failures(self) -> tuple[Row, ...]:
        """The tasks that failed."""
        return tuple(row for row in self.rows if row.error is not None)

    @functools.cached_property
    def repeats(self) -> tuple[tuple[Row, ...], ...]:
        """The rows that differ in the count of the repeat alone, the first repeat first."""
        groups: dict[str, list[Row]] = {}
        for row in sorted(self.measured, key=lambda row: row.task.repeat):
            groups.setdefault(replace(row.task, repeat=0).key, []).append(row)
        return tuple(map(tuple, groups.values()))

    @property
    def name(self) -> str:
        """Of the suite; of the folder where `run.json` names none."""
        return str(self.about.get("suite", {}).get("name") or self.folder.name)


def read_run(folder: Path) -> Run:
    """Read a run folder; of a task with several rows, the last that succeeded counts.

    A half line at the end, which a kill leaves, is dropped. Raises `UsageError` naming the file and line that
    is no row, or the folder that is no run.
    """
    about, rows = read_about(folder), latest_rows(read_rows(folder))
    if not rows:
        raise UsageError(f"{folder / ROWS} has no finished task yet; continue the run")
    return Run(folder, about, tuple(rows.values()))

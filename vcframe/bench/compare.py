"""Two runs of a suite: what the later one lost against the earlier."""

from __future__ import annotations

from dataclasses import dataclass

from vcframe.bench.analysis import Analysis, Comparison, System, compare
from vcframe.bench.rows import Row
from vcframe.bench.runs import Run
from vcframe.codec import UsageError


@dataclass(frozen=True)
class Change:
    """One system of both runs by one metric: the later run against the earlier, over all rates."""

    comparison: Comparison
    num_broken: int
    """Files that the earlier run measured and the later one failed at."""

    @property
    def num_lost(self) -> int:
        """Pictures that the earlier run measured and the later one did not."""
        return sum(delta.reason == "not measured" for delta in self.comparison.rates.values())

    def regression(self, margin_percent: float) -> str | None:
        """Why this is a regression; None where it is not."""
        mean = self.comparison.rate.mean
        if self.num_broken:
            return f"{self.num_broken} files failed that did not before"
        if self.num_lost:
            return f"{self.num_lost} pictures are missing"
        if mean is not None and mean > margin_percent:
            return f"{mean:+.2f} % bytes, more than {margin_percent:g} %"
        return None


def compare_runs(earlier: Run, later: Run, metric: str | None = None) -> list[Change]:
    """Compare the systems of the earlier run by every metric of both, or by one.

    Raises `UsageError` if the runs have nothing in common that could be compared.
    """
    before, after = Analysis(earlier), Analysis(later)
    metrics = [name for name in before.metrics if name in after.metrics and metric in (None, name)]
    if not metrics:
        asked = f"metric {metric!r}" if metric else "metric"
        raise UsageError(f"{earlier.folder} and {later.folder} have no {asked} in common")
    failed = {_place(row) for row in later.failures}
    changes = []
    for system in before.systems:
        broken = sum(_place(row) in failed for row in before.rows[system])
        for name in metrics:
            curves = before.curves(name)[system], after.curves(name).get(system, {})
            comparison = compare(*curves, system, system, name, "all rates")
            changes.append(Change(comparison, broken))
    if all(change.comparison.rate.mean is None for change in changes):
        reasons = [delta.reason for change in changes for delta in change.comparison.rates.values()]
        raise UsageError(f"no curve of {earlier.folder} compares with {later.folder}: {reasons[0]}")
    return changes


def _place(row: Row) -> tuple[str, System, int | None, float]:
    """A task without what may differ between versions: the codec's options and the picture's digest."""
    return row.task.image, System(row.task.codec, row.task.method), row.task.scale, row.task.quality

"""The page of a run, one file that needs nothing beside it, and its tables as CSV, JSON and Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vcframe.bench.analysis import Analysis
from vcframe.bench.compressai import PublishedCurve
from vcframe.bench.report.content import page_content
from vcframe.bench.report.page import render
from vcframe.bench.report.tables import deltas_csv, rows_csv, rows_parquet, summary_json
from vcframe.bench.report.viewer import Viewer, view_pictures
from vcframe.codec import UsageError
from vcframe.images import write_bytes

if TYPE_CHECKING:
    from vcframe.registry import Registry

__all__ = ["write_report"]


def write_report(
    analysis: Analysis,
    out: Path,
    registry: Registry,
    images: Path | None = None,
    published: Sequence[PublishedCurve] = (),
    on_progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> list[Path]:
    """Write index.html, summary.json, deltas.csv, rows.csv and rows.parquet into the folder `out`.

    With `images`, the folder of the originals, some are coded again for the viewer. `on_progress` is called
    with the part that is done, 0..1, and what is next. Returns the files. Raises `UsageError` if no task
    succeeded, if an original is not that of the run, or if a library is missing.
    """
    if not analysis.systems:
        raise UsageError(f"nothing in {analysis.run.folder} was measured: every task failed")
    on_progress(0.0, "deltas")
    # Worked out first: what fails leaves no half report.
    files = {
        "rows.csv": rows_csv(analysis.run),
        "rows.parquet": rows_parquet(analysis.run),
        "deltas.csv": deltas_csv(analysis),
        "summary.json": summary_json(analysis),
    }
    viewer = Viewer((), ("Without originals (--images DIR) there are no pictures here.",))
    if images is not None:
        viewer = view_pictures(analysis, images, registry, lambda f, text: on_progress(0.4 + 0.6 * f, text))
    files["index.html"] = render(analysis, page_content(analysis, viewer, published))
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(out / name, data)
    return [out / name for name in files]

"""`vcframe bench report` and `bench compare`: what finished runs say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcframe.cli.common import Force, Json, ProgressBar, Session, console, print_json
from vcframe.codec import UsageError

RunArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a run, of `vcframe bench run`.", show_default=False)
]


def report(
    ctx: typer.Context,
    folder: RunArgument,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the page and the tables.", show_default=False)
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Originals, for the viewer: it codes some again.", show_default=False
        ),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC",
            help="Compare all with this plain codec, not the suite's first.",
            show_default=False,
        ),
    ] = None,
    compressai: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json",
            help="A result file of CompressAI to draw too; repeatable.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write one self-contained page, and CSV, JSON and Parquet beside it."""
    session: Session = ctx.obj
    page = out / "index.html"
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder; name one for the page")
    if page.exists() and not force:
        raise UsageError(f"{page} exists; give --force to overwrite it")

    from vcframe.bench.analysis import Analysis
    from vcframe.bench.compressai import read_compressai
    from vcframe.bench.report import write_report
    from vcframe.bench.runs import read_run

    published = [read_compressai(path) for path in compressai or ()]
    analysis = Analysis(read_run(folder), anchor)
    with ProgressBar() as bar:
        files = write_report(
            analysis,
            out,
            session.registry,
            images,
            published,
            lambda done, text: bar.update(done, "report", text),
        )
    for path in files:
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def compare(
    earlier: RunArgument,
    later: RunArgument,
    margin: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, help="More bytes than this at equal distortion fail.")
    ] = 1.0,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Judge by this metric alone, not by all.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a later run with an earlier one; exit status 1 if it is worse by more than the margin.

    A file that fails now and did not before, and a picture that is missing, are regressions too.
    """
    from rich.table import Table

    from vcframe.bench.compare import compare_runs
    from vcframe.bench.runs import read_run

    changes = compare_runs(read_run(earlier), read_run(later), metric)
    verdicts = [change.regression(margin) for change in changes]
    if as_json:
        print_json(
            [
                {
                    "system": str(change.comparison.system),
                    "metric": change.comparison.metric,
                    "bd_rate_percent": change.comparison.rate.mean,
                    "num_images": change.comparison.rate.num_images,
                    "num_missing": change.comparison.rate.num_missing,
                    "regression": verdict,
                }
                for change, verdict in zip(changes, verdicts, strict=True)
            ]
        )
    else:
        table = Table("system", "metric", "BD-rate", "95 % interval", "pictures", "verdict")
        for change, verdict in zip(changes, verdicts, strict=True):
            rate = change.comparison.rate
            mean = "n/a" if rate.mean is None else f"{rate.mean:+.2f} %"
            interval = "" if rate.low is None else f"{rate.low:+.2f} .. {rate.high:+.2f} %"
            counts = f"{rate.num_images - rate.num_missing} of {rate.num_images}"
            cells = str(change.comparison.system), change.comparison.metric, mean, interval, counts
            table.add_row(*cells, verdict or "")
        console().print(table)
    if any(verdicts):
        raise typer.Exit(1)

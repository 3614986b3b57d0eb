"""`vcframe bench`: benchmark suites."""

from __future__ import annotations

import typer

from vcframe.cli import reporting

app = typer.Typer(help="Run benchmark suites, compare runs, make a page of one.", no_args_is_help=True)

app.command("compare")(reporting.compare)
app.command("report")(reporting.report)

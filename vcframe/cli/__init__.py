"""The command line: verbs, and one clear line for every error.

Everything heavy is imported inside the verb that needs it: `vcframe --help` and `vcframe codecs` load neither
torch nor a codec library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcframe.cli import authoring, bench, compress, data, decompress, info, listing, training, virtual
from vcframe.cli.common import Session, VcframeGroup
from vcframe.memory import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    name="vcframe",
    cls=VcframeGroup,
    help="Learned networks around standard image codecs, trained through a virtual codec.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _globals(
    ctx: typer.Context,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A one-file plugin to load besides the installed ones; repeatable."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=listing.print_version)
    ] = False,
) -> None:
    ctx.obj = Session(plugin_files=tuple(plugin or ()), verbose=verbose)


app.command("codecs")(listing.codecs)
app.add_typer(authoring.plugins, name="plugins")
app.command("check")(authoring.check)
app.command("models")(listing.models)
app.command("metrics")(listing.metrics)
app.command("train")(training.train)
app.command("join")(training.join)
app.command("compress")(compress.compress)
app.command("decompress")(decompress.decompress)
app.command("info")(info.info)
app.command("evaluate")(training.evaluate)
app.add_typer(data.app, name="data")
app.command("demo")(training.demo)
app.add_typer(virtual.app, name="virtual")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    keep_freed_memory()
    app()

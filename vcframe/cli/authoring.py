"""`vcframe check` and `vcframe plugins new`: the verbs for authors of codecs."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from vcframe.cli import listing
from vcframe.cli.common import (
    CodecOptions,
    Json,
    ProgressBar,
    Session,
    console,
    fail,
    print_json,
)
from vcframe.codec import UsageError

if TYPE_CHECKING:
    from vcframe.testing import Outcome

TEMPLATE_FILES = (
    "pyproject.toml",
    "README.md",
    "vcframe_example.py",
    "tests/test_codec.py",
    ".github/workflows/check.yml",
)
"""What `plugins/example/` consists of; `plugins new` writes them with another name."""

plugins = typer.Typer(invoke_without_command=True, callback=listing.plugins)


def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The codec.", show_default=False)],
    options: CodecOptions = None,
    golden: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Files of an earlier release to decode too.", show_default=False),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write-golden",
            metavar="DIR",
            help="Where nothing failed, write such files for later releases.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check what vcframe relies on in a codec; exit status 1 if a check fails."""
    session: Session = ctx.obj
    codec = session.codec(name, options)

    from vcframe.testing import codec_checks, write_golden

    checks = codec_checks(codec, golden)
    outcomes = []
    with ProgressBar() as bar:
        for number, case in enumerate(checks):
            bar.update(number / len(checks), "checking", case.name)
            outcomes.append(case.outcome())
    if as_json:
        print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        _print_outcomes(outcomes)
    failed = [outcome.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        fail(ctx, f"{len(failed)} of {len(checks)} checks of {name} failed: {', '.join(failed)}", status=1)
    if write is not None:
        write_golden(codec, write)


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "result", "promise, and what was found instead")
    for outcome in outcomes:
        found = outcome.promise if outcome.reason is None else f"{outcome.promise}\n-> {outcome.reason}"
        table.add_row(outcome.name, outcome.status, escape(found))
    console().print(table)


@plugins.command("new")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The codec's name.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder. Default: vcframe-NAME.", show_default=False),
    ] = None,
) -> None:
    """Write a plugin package around a small complete codec, to put your own in its place."""
    session: Session = ctx.obj
    if re.fullmatch(r"[a-z][a-z0-9_-]*", name) is None:
        raise UsageError(f"{name!r} cannot name a codec: use a-z, 0-9, - and _, a letter first")
    if name in session.registry.codecs:
        raise UsageError(f"there is a codec {name!r} already; choose another name")
    folder = Path(f"vcframe-{name}") if out is None else out
    if folder.exists():
        raise UsageError(f"{folder} exists; name a new folder with --out")
    if not folder.parent.is_dir():
        raise UsageError(f"the folder {folder.parent} does not exist; make it first")
    _write_package(name, folder)
    module = folder / _renamed("vcframe_example.py", name)
    print(f"{folder}: a package that works as it is; your codec goes into {module}. Next:")
    print(f"  vcframe --plugin {module} check {name}")
    print(f"  pip install -e {folder}")


def _write_package(name: str, folder: Path) -> None:
    """All files or none."""
    template = importlib.resources.files("vcframe_plugins") / "example"
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        package = Path(scratch, "package")
        for file in TEMPLATE_FILES:
            path = package / _renamed(file, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = template.joinpath(file).read_text(encoding="utf-8")
            path.write_text(_renamed(text, name), encoding="utf-8")
        package.rename(folder)


def _renamed(text: str, name: str) -> str:
    """The template's text with `name` in place of its own, in the spelling that each place asks for."""
    spellings = {
        "vcframe_example": f"vcframe_{name.replace('-', '_')}",
        '".example"': f'".{re.sub("[-_]", "", name)}"',
        "Example": "".join(part.capitalize() for part in re.split("[-_]", name)),
        "example": name,
    }
    return re.sub("|".join(map(re.escape, spellings)), lambda match: spellings[match[0]], text)

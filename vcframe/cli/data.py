"""`vcframe data list`, `fetch`, `verify`: the image sets that results are published on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcframe.cli.common import Json, ProgressBar, console, print_json

if TYPE_CHECKING:
    from vcframe.bench.sets import FileCheck, ImageSet

app = typer.Typer(help="Image sets to measure on: what there is, fetching, checking.", no_args_is_help=True)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the known image sets with source and licence, and whether each is here."""
    from vcframe.bench.sets import list_sets

    known = [(image_set, _state(image_set)) for image_set in list_sets()]
    if as_json:
        print_json([dataclasses.asdict(image_set) | {"state": here} for image_set, here in known])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("set", "pictures", "MB", "what", "source", "licence", "state")
    for image_set, here in known:
        texts = (image_set.title, image_set.source, image_set.licence, here)
        table.add_row(
            image_set.name, str(image_set.num_images), f"{image_set.num_bytes / 1e6:.1f}", *map(escape, texts)
        )
    console().print(table)


@app.command("fetch")
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="SET...", help="`vcframe data list` lists them.")],
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Fetch URL/SET/FILE instead of from the set's own source.", show_default=False
        ),
    ] = None,
) -> None:
    """Download image sets and check their digests; the same command continues a stopped one.

    They go into a folder of their name below $VCFRAME_DATA, or else below ~/.cache/vcframe.
    """
    from vcframe.bench import sets

    for image_set in [sets.find_set(name) for name in names]:
        with ProgressBar() as bar:
            folder = sets.fetch(
                image_set, mirror, lambda done, total, name: bar.update(done / total, "fetching", name)
            )
        print(f"{image_set.name}: {image_set.num_images} pictures in {folder}")


@app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(metavar="SET", help="`vcframe data list` lists them.")],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of yours; else where `data fetch` puts it.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that a folder holds the pictures of a set, all of them and the same ones.

    A picture in another lossless format counts where its samples are the same.
    """
    from vcframe.bench import sets

    image_set = sets.find_set(name)
    folder = images or sets.set_folder(image_set)
    if as_json and image_set.files:
        checks = sets.check(image_set, folder)
        print_json([_row(check) for check in checks])
        raise typer.Exit(int(any(check.state != "ok" for check in checks)))
    num_files = len(sets.local_files(image_set, folder))
    print(f"{image_set.name}: all {num_files} pictures are in {folder}")


def _state(image_set: ImageSet) -> str:
    from vcframe.bench.sets import check, set_folder

    checks = check(image_set, set_folder(image_set))
    num_here = sum(check.state == "ok" for check in checks)
    if num_here:
        return "here" if num_here == len(checks) else f"{num_here} of {len(checks)} here"
    return "local folder only" if image_set.url is None else "to fetch"


def _row(check: FileCheck) -> dict[str, Any]:
    return {
        "name": check.file.name,
        "path": None if check.path is None else str(check.path),
        "state": check.state,
    }

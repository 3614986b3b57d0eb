"""A run's folder on disk: `run.json` about the whole, `rows.jsonl` with a line for each finished task."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vcframe.bench.rows import Row
from vcframe.codec import ImageError, UsageError
from vcframe.images import write_bytes

SCHEMA_VERSION = 1
"""Of `run.json`."""

ABOUT, ROWS, FILES = "run.json", "rows.jsonl", "files"
PACKED_ROWS = f"{ROWS}.gz"
"""What `gzip` makes of the rows, for keeping; it is read, never written."""


def open_run(folder: Path, about: dict[str, Any]) -> dict[str, Row]:
    """Begin a run in a folder, or continue one: the rows that are there already, by the key of their task.

    A half line at the end, which a kill leaves, is cut off. Raises `UsageError` where the folder holds
    another run or other things.
    """
    if not (folder / ABOUT).exists():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(f"{folder} is not an empty folder nor one of an earlier run: name another")
        if not folder.parent.is_dir():
            raise UsageError(f"the folder {folder.parent} does not exist; make it first")
        folder.mkdir(exist_ok=True)
        _write_about(folder, about)
        return {}
    earlier = read_about(folder)
    for name, what in _SAME.items():
        if earlier.get(name) != json.loads(json.dumps(about[name])):
            raise UsageError(
                f"{folder} holds a run with {what}: continue it as it was begun, or name another"
            )
    path = folder / ROWS
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
    return {row.task.key: row for row in read_rows(folder)}


_SAME = {
    "suite": "another suite",
    "plan": "other tasks (codecs, models, pictures or options differ)",
    "models": "other models",
    "codecs": "other versions of the codecs",
    "shard": "another shard",
    "metrics": "other metrics",
}
"""What of `run.json` a run must have in common with the one that it continues."""


@contextmanager
def appending(folder: Path) -> Iterator[TextIO]:
    """The file of rows, to which each whole line is written at once; `ImageError` where the disk refuses."""
    try:
        with (folder / ROWS).open("a", encoding="utf-8", buffering=1) as file:
            yield file
    except OSError as error:
        raise ImageError(f"cannot write {folder / ROWS}: {error.strerror or error}") from error


def read_about(folder: Path) -> dict[str, Any]:
    """`run.json` of a run's folder; raises `UsageError` where there is none of this version."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} is no folder of a run ({error}); make one: vcframe bench run SUITE --out DIR"
        ) from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA_VERSION:
        raise UsageError(f"{folder / ABOUT} is not of schema {SCHEMA_VERSION}")
    return about


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows in the order of finishing, less a half line at the end; raises `UsageError` for a bad one."""
    for name in (PACKED_ROWS, ROWS):
        path = folder / name
        try:
            data = path.read_bytes() if path.exists() else b""
            text = (gzip.decompress(data) if name == PACKED_ROWS else data).decode(errors="replace")
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path}: {error}") from error
        for number, line in enumerate(text.split("\n")[:-1], 1):
            try:
                yield Row.from_json(line)
            except ValueError as error:
                raise UsageError(f"{path} line {number}: {error}") from error


def latest_rows(rows: Iterable[Row]) -> dict[str, Row]:
    """By the key of its task, the row of each that counts: the last that succeeded, or else the first."""
    latest: dict[str, Row] = {}
    for row in rows:
        if row.error is None or row.task.key not in latest:
            latest[row.task.key] = row
    return latest


def merge_runs(folders: Sequence[Path], out: Path) -> tuple[int, int]:
    """Join the shards of one plan into the folder of one run: how many tasks have a row, of how many.

    Of a task with several rows, the last that succeeded counts. Raises `UsageError` for runs of different
    plans.
    """
    abouts = [read_about(folder) for folder in folders]
    first = abouts[0]
    for folder, about in zip(folders, abouts, strict=True):
        for name, what in _SAME.items():
            if name != "shard" and about.get(name) != first.get(name):
                raise UsageError(f"{folder} and {folders[0]} cannot be merged: {what}")
    rows = latest_rows(row for folder in folders for row in read_rows(folder))
    open_run(out, first | {"shard": None, "parts": abouts})
    write_bytes(out / ROWS, _lines(rows.values()))
    for folder in folders:
        _copy_files(folder / FILES, out / FILES)
    return len(rows), int(first["plan"]["num_tasks"])


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(f"{row.to_json()}\n" for row in rows).encode()


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    write_bytes(folder / ABOUT, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")


def _copy_files(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            write_bytes(target / path.name, path.read_bytes())

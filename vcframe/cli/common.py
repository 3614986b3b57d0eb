"""What the verbs share: the session, options, output and the one place where errors become a line."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vcframe.codec import Codec, ImageError, UsageError, VcframeError

if TYPE_CHECKING:
    from rich.console import Console

    from vcframe.model import Model
    from vcframe.registry import Registry

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 plus the number of SIGINT."""

STANDARD_STREAM = "-"
"""Stands for standard input or standard output where a file is named."""

CodecName = Annotated[
    str,
    typer.Option(
        "--codec", metavar="NAME", help="The codec; `vcframe codecs` lists them.", show_default=False
    ),
]
CodecOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="A setting of the codec; repeatable.", show_default=False
    ),
]
DEFAULT_MINUTES = 10.0
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Folder, file or glob of pictures; repeatable. Without it, generated pictures.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The run's folder.", show_default=False)
]
Minutes = Annotated[
    float | None,
    typer.Option(metavar="M", help=f"Length; {DEFAULT_MINUTES:g} if nothing is said.", show_default=False),
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Length in steps instead.", show_default=False)]
Seed = Annotated[int, typer.Option(metavar="N", help="Of weights, pictures and qualities.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the networks run.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
MaxPixels = Annotated[int, typer.Option(metavar="N", min=1, help="Refuse larger pictures.")]
ModelReference = Annotated[
    str | None, typer.Option("--model", metavar="FILE|ID", help="A trained model.", show_default=False)
]


@dataclass(frozen=True)
class Session:
    """What the global options say; the registry is loaded when a verb first asks for it."""

    plugin_files: tuple[Path, ...]
    verbose: bool

    @cached_property
    def registry(self) -> Registry:
        """The installed plugins and the given plugin files."""
        from vcframe.registry import Registry

        return Registry.load(self.plugin_files)

    def codec(self, name: str, options: Sequence[str] | None) -> Codec:
        """Build a codec from `--codec` and `--option KEY=VALUE`."""
        return self.registry.codec_from_config({"codec": name, "options": parse_options(options or ())})

    def codec_of(self, model: Model, options: Sequence[str] | None) -> Codec:
        """Build the codec that a model was trained around; options that the user named come first."""
        own = model.card.codec
        return self.registry.codec_from_config(
            {**own, "options": own["options"] | parse_options(options or ())}
        )


class VcframeGroup(TyperGroup):
    """Turns every deliberate error into one line on standard error and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VcframeError as error:
            fail(ctx, str(error), status=1)
        except KeyboardInterrupt:
            fail(ctx, "interrupted", status=INTERRUPTED)


def fail(ctx: typer.Context, message: str, status: int) -> None:
    """Print one line (with `-v` the traceback before it) and end with `status`."""
    if isinstance(ctx.obj, Session) and ctx.obj.verbose:
        traceback.print_exc()
    print(f"vcframe: error: {message}", file=sys.stderr)
    raise typer.Exit(status)


def parse_scale(text: str) -> int | None:
    """`--scale`; None for `auto`."""
    if text not in ("auto", "1", "2", "4"):
        raise UsageError(f"--scale {text}: give auto, 1, 2 or 4")
    return None if text == "auto" else int(text)


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """`["method=6"]` as `{"method": "6"}`; the codec checks names and types."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--option {pair!r} is not KEY=VALUE, for example method=6")
        options[key] = value
    return options


def check_new_file(path: Path, force: bool) -> None:
    """Refuse, before any work is done, an output that exists or whose folder does not."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it first")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give --force to overwrite it")


def check_output(path: Path, force: bool, as_json: bool) -> None:
    """`check_new_file`, where `-` is standard output, which JSON would need too."""
    if str(path) != STANDARD_STREAM:
        check_new_file(path, force)
    elif as_json:
        raise UsageError("--json prints on standard output: name a file to write to instead of -")


def read_bytes(path: Path) -> bytes:
    """The contents of a file, or of standard input for `-`; `ImageError` naming path and reason."""
    try:
        return sys.stdin.buffer.read() if str(path) == STANDARD_STREAM else path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error


def torch_device(name: str) -> str:
    """Resolve `auto` and check that the device can be used."""
    from vcframe.learning.engine import Engine

    return str(Engine(name).device)


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for any table where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 160, highlight=False)


def print_json(content: Any) -> None:
    """Print JSON on standard output, where nothing else goes when it is asked for."""
    print(json.dumps(content, indent=1, allow_nan=False))


def report(message: str, out: Path) -> None:
    """Tell the result: on standard output, unless the file went there."""
    print(message, file=sys.stderr if str(out) == STANDARD_STREAM else sys.stdout)


def note(message: str) -> None:
    """Tell something besides the result, on standard error."""
    print(f"vcframe: {message}", file=sys.stderr)


def clock(seconds: float) -> str:
    """`75` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class ProgressBar:
    """A bar with the time left on a terminal; elsewhere a line now and then. On standard error."""

    LINE_EVERY_S = 15.0

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._started = self._last_line = time.perf_counter()

    def __enter__(self) -> ProgressBar:
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            "{task.description}",
            "{task.percentage:>3.0f} %  left {task.fields[left]}  {task.fields[text]}",
        )
        self._bar = Progress(
            TextColumn(columns[0]), BarColumn(), TextColumn(columns[1]), console=self._console, transient=True
        )
        self._task = self._bar.add_task("starting", total=1.0, left="-:--", text="")
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def update(self, fraction: float, phase: str, text: str = "", remaining_s: float | None = None) -> None:
        """Show where the work stands, 0..1; the time left is estimated where it is not given."""
        now = time.perf_counter()
        if remaining_s is None and fraction > 0:
            remaining_s = (now - self._started) * (1 - fraction) / fraction
        left = "-:--" if remaining_s is None else clock(remaining_s)
        self._bar.update(self._task, completed=fraction, description=phase, left=left, text=text)
        if not self._console.is_terminal and now - self._last_line >= self.LINE_EVERY_S:
            self._last_line = now
            note(f"{phase}: {100 * fraction:.0f} %, left {left}  {text}".rstrip())

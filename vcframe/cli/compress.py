"""`vcframe compress`: pictures into files of a codec."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcframe.cli.batch import (
    Batch,
    Jobs,
    Sources,
    Task,
    finish,
    is_batch,
    plan,
    print_batch_json,
    run,
)
from vcframe.cli.common import (
    STANDARD_STREAM,
    CodecOptions,
    Device,
    Force,
    Json,
    ModelReference,
    Session,
    check_output,
    console,
    parse_scale,
    print_json,
    read_bytes,
    report,
    torch_device,
)
from vcframe.codec import Codec, Image, UsageError
from vcframe.stream import CONTAINER_EXTENSION, is_container

if TYPE_CHECKING:
    from vcframe.model import Model
    from vcframe.search import Goal
    from vcframe.ways import Compressed

AUTO = "auto"


@dataclass(frozen=True)
class Encoder:
    """What the options ask for, checked, with every codec and model loaded."""

    systems: list[tuple[Codec, Model | None]]
    """One codec and its model, if networks are used; several for `--codec auto`."""
    chooses_codec: bool
    goal: Goal
    scale: int | None
    effort: int
    background: str | None
    """Colour that shows through transparent pixels."""

    def compress(self, image: Image) -> Compressed:
        """Raises as `coder.compress`."""
        from vcframe import coder

        targets = dataclasses.asdict(self.goal)
        if self.chooses_codec:
            del targets["quality"]
            return coder.compress_with_any(image, self.systems, **targets, effort=self.effort)
        codec, model = self.systems[0]
        scale = self.scale if model else None
        return coder.compress(image, codec, **targets, model=model, scale=scale, effort=self.effort)

    @property
    def extensions(self) -> list[str]:
        """Those that an output may have."""
        own = [codec.extension for codec, _ in self.systems]
        return [*own, CONTAINER_EXTENSION]


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    file: str
    codec: dict[str, Any]
    codec_version: str
    model: str | None
    scale: int | None
    quality: float
    source_bytes: int
    num_bytes: int
    bpp: float
    psnr_db: float
    size: tuple[int, int]
    coded_size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return dataclasses.asdict(self)

    @property
    def saved(self) -> str:
        """How much smaller than the source it is."""
        return _saved(self.source_bytes, self.num_bytes)


def compress(
    ctx: typer.Context,
    sources: Sources,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The file to write, - for standard output; a folder for several files, a folder or a glob.",
            show_default=False,
        ),
    ],
    codec_name: Annotated[
        str,
        typer.Option(
            "--codec",
            metavar="NAME|auto",
            help="The codec; `vcframe codecs` lists them. auto takes, for each picture, the one of them that "
            "meets the target best.",
            show_default=False,
        ),
    ],
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality",
            "-q",
            metavar="Q",
            help="On the codec's own scale; without --scale it stands for the bytes of the plain codec.",
            show_default=False,
        ),
    ] = None,
    target_bytes: Annotated[
        int | None,
        typer.Option(metavar="N", help="The best file of at most so many bytes.", show_default=False),
    ] = None,
    target_bpp: Annotated[
        float | None,
        typer.Option(
            metavar="BPP",
            help="The best quality whose file fits, in bits per pixel of IN.",
            show_default=False,
        ),
    ] = None,
    target_psnr: Annotated[
        float | None,
        typer.Option(metavar="DB", help="The smallest file that restores so well.", show_default=False),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="auto|1|2|4",
            help="Code at full, half or quarter size; auto takes what restores best within the bytes of the "
            "target, or of the plain codec at --quality.",
        ),
    ] = "auto",
    effort: Annotated[
        int,
        typer.Option(
            metavar="1|2|3",
            help="How far a target is searched, for the plain codec and each scale: to within 1 % or 0.05 dB "
            "(about 3 encodes), to the step (4), past it where sizes are uneven (7). --target-psnr decodes "
            "after each, the others once.",
        ),
    ] = 2,
    model_reference: ModelReference = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR",
            help="What shows through transparent pixels, for example white or #336699; "
            "without it they are refused.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Use the codec alone, without networks.")] = False,
    options: CodecOptions = None,
    jobs: Jobs = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compress pictures into ordinary files of a codec, from which `decompress` restores more.

    Without --model the shipped or installed model of the codec is used, and the codec takes the options that
    it was trained with where no --option says otherwise. Every file is restored once, for the
    PSNR that it gives. Several files, folders and globs go into the folder OUT, trees kept; what exists
    there is skipped unless --force is given, so the same command continues a stopped batch.
    """
    session: Session = ctx.obj
    if plain and model_reference is not None:
        raise UsageError("give either --plain or --model")
    wanted = parse_scale(scale)
    codecs = _codecs(session, codec_name, options, quality, wanted, model_reference)
    batch = is_batch(sources, out)
    if not batch:
        _check_name(out, codecs, codec_name == AUTO)
        check_output(out, force, as_json)

    from vcframe.coder import check_request
    from vcframe.search import Goal

    goal = Goal(quality, target_bytes, target_bpp, target_psnr)
    models = [None if plain else _model(model_reference, codec, device, codec_name) for codec in codecs]
    systems: list[tuple[Codec, Model | None]] = []
    for codec, model in zip(codecs, models, strict=True):
        check_request(codec, goal, model, wanted, effort)
        systems.append((codec if model is None else session.codec_of(model, options), model))
    encoder = Encoder(systems, codec_name == AUTO, goal, wanted, effort, background)
    if not batch:
        written = _write(encoder, Path(sources[0]), out)
        if as_json:
            print_json(written.to_json())
        else:
            report(_sentence(written, any(models)), out)
        return
    tasks = plan(sources, out, encoder.extensions, force)
    result = run(tasks, lambda task: _write(encoder, task.source, task), jobs, "compressing", not plain)
    if as_json:
        print_batch_json(result)
    else:
        _print_table(result)
    finish(ctx, result)


def _codecs(
    session: Session,
    name: str,
    options: list[str] | None,
    quality: float | None,
    scale: int | None,
    model_reference: str | None,
) -> list[Codec]:
    """The codec of that name, or for `auto` every one that can run here."""
    if name != AUTO:
        return [session.codec(name, options)]
    given = {
        "--quality": quality is not None,
        "--option": bool(options),
        "--scale": scale is not None,
        "--model": model_reference is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} belongs to one codec: name it with --codec instead of auto")

    from vcframe.registry import unavailable_reason

    codecs = [record.codec() for record in session.registry.codecs.values()]
    usable = [codec for codec in codecs if unavailable_reason(codec) is None]
    if not usable:
        raise UsageError("no codec can run here; see `vcframe codecs --versions`")
    return usable


def _model(reference: str | None, codec: Codec, device: str, codec_name: str) -> Model | None:
    """The model of a codec; None where `auto` finds none that knows every quality."""
    from vcframe.model import ModelError, find_model

    try:
        model = find_model(reference, codec, torch_device(device))
    except ModelError:
        if codec_name == AUTO:
            return None
        raise
    return None if codec_name == AUTO and model.card.quality is not None else model


def _check_name(out: Path, codecs: list[Codec], chooses_codec: bool) -> None:
    """Refuse a file name that does not say what is in the file."""
    if str(out) == STANDARD_STREAM:
        return
    if chooses_codec:
        raise UsageError(f"--codec auto gives files their extension itself: make {out} a folder, or give -")
    codec = codecs[0]
    if out.suffix.lower() not in (codec.extension, *codec.aliases, CONTAINER_EXTENSION):
        named = out.suffix or "no extension"
        raise UsageError(f"{out}: codec {codec.name} writes {codec.extension} files, not {named}")


def _write(encoder: Encoder, source: Path, out: Path | Task) -> Written:
    """Compress one picture and write the file, whose name is `out` or that of the task."""
    from vcframe.images import read_image, write_bytes

    with _as_file(source) as path:
        source_bytes = path.stat().st_size if path.is_file() else 0
        coded = encoder.compress(read_image(path, encoder.background))
    codec, model = coded.way.codec, coded.way.model
    extension = CONTAINER_EXTENSION if is_container(coded.data) else codec.extension
    if isinstance(out, Task):
        out = out.target(extension)
    elif str(out) != STANDARD_STREAM and (CONTAINER_EXTENSION in (extension, out.suffix.lower())):
        unimproved = model is None and any(model for _, model in encoder.systems)
        _check_container(out, extension, codec, unimproved)
    written = Written(
        str(out),
        codec.config(),
        codec.version(),
        model.id if model else None,
        coded.scale,
        coded.quality,
        source_bytes,
        coded.num_bytes,
        coded.bpp,
        coded.psnr_db,
        (coded.way.image.shape[0], coded.way.image.shape[1]),
        (coded.description.shape[0], coded.description.shape[1]),
    )
    if str(out) == STANDARD_STREAM:
        sys.stdout.buffer.write(coded.data)
    else:
        write_bytes(out, coded.data)
    return written


def _check_container(out: Path, extension: str, codec: Codec, unimproved: bool) -> None:
    if out.suffix.lower() != extension:
        in_container = extension == CONTAINER_EXTENSION
        reason = "has no place for what restores it" if in_container else "needs no container"
        kind = f"{codec.name} file" + " that no network improves on" * unimproved
        raise UsageError(f"a {kind} {reason}: name it {out.stem}{extension}")


@contextmanager
def _as_file(source: Path) -> Iterator[Path]:
    """The source, or a file that holds standard input: readers of pictures seek."""
    if str(source) != STANDARD_STREAM:
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard input"
        path.write_bytes(read_bytes(source))
        yield path


def _sentence(written: Written, had_model: bool) -> str:
    (height, width), (coded_height, coded_width) = written.size, written.coded_size
    by = "plain codec"
    if written.model is not None:
        by = f"model {written.model}, coded at {coded_width}x{coded_height}"
    elif had_model:
        by += ", which no network improves on here"
    return (
        f"{written.file}: {written.num_bytes:,} bytes, {written.bpp:.3f} bpp of {width}x{height}, "
        f"{written.codec['codec']} quality {written.quality:g}, {by}; restores to {written.psnr_db:.2f} dB"
    )


def _print_table(batch: Batch[Written]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not batch.done:
        return
    table = Table("file")
    for heading in ("bytes in", "bytes out", "saved", "PSNR", "seconds"):
        table.add_column(heading, justify="right")
    for outcome, row in batch.done:
        sizes = f"{row.source_bytes:,}", f"{row.num_bytes:,}", row.saved
        table.add_row(escape(row.file), *sizes, f"{row.psnr_db:.2f} dB", f"{outcome.seconds:.1f}")
    rows = [row for _, row in batch.done]
    num_in, num_out = sum(row.source_bytes for row in rows), sum(row.num_bytes for row in rows)
    mean = sum(row.psnr_db for row in rows) / len(rows)
    seconds = sum(outcome.seconds for outcome, _ in batch.done)
    table.add_section()
    sums = f"{num_in:,}", f"{num_out:,}", _saved(num_in, num_out), f"mean {mean:.2f} dB", f"{seconds:.1f}"
    table.add_row(f"{len(rows)} files", *sums)
    console().print(table)


def _saved(num_in: int, num_out: int) -> str:
    return f"{100 * (1 - num_out / num_in):.1f} %" if num_in else "-"

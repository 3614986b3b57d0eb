"""`vcframe decompress`: files back into pictures."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcframe.cli.batch import (
    Batch,
    Jobs,
    Sources,
    finish,
    is_batch,
    plan,
    print_batch_json,
    run,
)
from vcframe.cli.common import (
    STANDARD_STREAM,
    Device,
    Force,
    Json,
    MaxPixels,
    ModelReference,
    Session,
    check_output,
    console,
    note,
    print_json,
    read_bytes,
    report,
    torch_device,
)
from vcframe.codec import DEFAULT_MAX_PIXELS, Codec, UsageError
from vcframe.stream import CONTAINER_EXTENSION

if TYPE_CHECKING:
    from vcframe.coder import Restored
    from vcframe.model import Model
    from vcframe.registry import Registry


@dataclass(frozen=True)
class Decoder:
    """What the options ask for; each model that a file names is loaded once."""

    registry: Registry
    model_reference: str | None
    device: str
    max_pixels: int
    preview: bool
    _models: dict[str, Model] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def restore(self, source: Path) -> Restored:
        """The picture in a file; raises as `coder.decompress`."""
        from vcframe import coder

        data = read_bytes(source)
        if self.preview:
            return coder.preview(data, self.registry, self.max_pixels)

        def find(model_id: str, codec: Codec) -> Model:
            model = self._find(self.model_reference or model_id, codec)
            if model.id != model_id:
                raise UsageError(
                    f"{source} was made with model {model_id}, and {self.model_reference} is model {model.id}"
                )
            return model

        return coder.decompress(data, self.registry, find, self.max_pixels)

    def _find(self, reference: str, codec: Codec) -> Model:
        from vcframe.model import find_model

        with self._lock:
            if reference not in self._models:
                self._models[reference] = find_model(reference, codec, torch_device(self.device))
            return self._models[reference]


@dataclass(frozen=True)
class Picture:
    """A picture that was written."""

    file: str
    codec: str
    model: str | None
    """The model that the file names; None for an ordinary picture."""
    size: tuple[int, int]
    coded_size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return dataclasses.asdict(self)


def decompress(
    ctx: typer.Context,
    sources: Sources,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The picture file to write, for example PNG, - for standard output; a folder for several "
            "files, a folder or a glob.",
            show_default=False,
        ),
    ],
    preview: Annotated[
        bool, typer.Option("--preview", help="Write what the codec was given, without a network.")
    ] = False,
    picture_format: Annotated[
        str,
        typer.Option("--format", metavar="EXTENSION", help="Of pictures in a folder or on standard output."),
    ] = "png",
    model_reference: ModelReference = None,
    jobs: Jobs = None,
    device: Device = "auto",
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Restore pictures; each file itself says which codec and model made it.

    OUT is PNG, lossless WebP, TIFF or JPEG by its extension. --model is only needed where that model is not
    installed: it says where it is. Several files, folders and globs go into the folder OUT, trees kept; what
    exists there is skipped unless --force is given, so the same command continues a stopped batch.
    """
    session: Session = ctx.obj
    batch = is_batch(sources, out)
    extension = _extension(picture_format)
    if not batch:
        check_output(out, force, as_json)
    decoder = Decoder(session.registry, model_reference, device, max_pixels, preview)
    if not batch:
        picture = _write(decoder, Path(sources[0]), out, extension)
        if picture.model is None:
            kind = f"the ordinary {picture.codec} file that it is"
            note(f"{sources[0]} has no vcframe payload: decoded as {kind}")
        if as_json:
            print_json(picture.to_json())
        else:
            report(_sentence(picture, preview), out)
        return
    tasks = plan(sources, out, [extension], force, accepts=_own_extensions(session.registry))
    result = run(
        tasks,
        lambda task: _write(decoder, task.source, task.target(extension), extension),
        jobs,
        "restoring",
        not preview,
    )
    if as_json:
        print_batch_json(result)
    else:
        _print_table(result, preview)
    finish(ctx, result)


def _extension(picture_format: str) -> str:
    from vcframe.images import WRITABLE_EXTENSIONS

    extension = f".{picture_format.lower().removeprefix('.')}"
    if extension not in WRITABLE_EXTENSIONS:
        known = ", ".join(known[1:] for known in WRITABLE_EXTENSIONS)
        raise UsageError(f"--format {picture_format}: give one of {known}")
    return extension


def _own_extensions(registry: Registry) -> set[str]:
    """Of the files in a folder that may be ours."""
    codecs = [record.codec for record in registry.codecs.values()]
    own = {extension for codec in codecs for extension in (codec.extension, *codec.aliases)}
    return own | {CONTAINER_EXTENSION}


def _write(decoder: Decoder, source: Path, out: Path, extension: str) -> Picture:
    from vcframe.images import write_image

    restored = decoder.restore(source)
    if str(out) == STANDARD_STREAM:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"picture{extension}"
            write_image(path, restored.image)
            sys.stdout.buffer.write(path.read_bytes())
    else:
        write_image(out, restored.image)
    size = restored.image.shape[0], restored.image.shape[1]
    return Picture(str(out), restored.codec_name, restored.model_id, size, restored.coded_size)


def _sentence(picture: Picture, preview: bool) -> str:
    (height, width), (coded_height, coded_width) = picture.size, picture.coded_size
    made = f"{picture.file}: {width}x{height} from {picture.codec}"
    if picture.model is None:
        return made
    if preview:
        return f"{made}, the description alone; model {picture.model} restores it"
    return f"{made} at {coded_width}x{coded_height}, restored by model {picture.model}"


def _print_table(batch: Batch[Picture], preview: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not batch.done:
        return
    table = Table("file", "size", "codec", "preview of model" if preview else "model")
    table.add_column("seconds", justify="right")
    for outcome, row in batch.done:
        made = row.model or "none: an ordinary file"
        size = f"{row.size[1]}x{row.size[0]}"
        table.add_row(escape(row.file), size, escape(row.codec), made, f"{outcome.seconds:.1f}")
    console().print(table)

"""`vcframe compress` and `vcframe decompress`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcframe.cli.common import (
    CodecName,
    CodecOptions,
    Device,
    Force,
    Json,
    Session,
    check_new_file,
    note,
    parse_scale,
    print_json,
    read_bytes,
    torch_device,
)
from vcframe.codec import DEFAULT_MAX_PIXELS, Codec, UsageError
from vcframe.stream import CONTAINER_EXTENSION, is_container

if TYPE_CHECKING:
    from vcframe.model import Model

ModelReference = Annotated[
    str | None, typer.Option("--model", metavar="FILE|ID", help="A trained model.", show_default=False)
]


def compress(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture file.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.", show_default=False)],
    codec_name: CodecName,
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
    target_bpp: Annotated[
        float | None,
        typer.Option(
            metavar="BPP",
            help="The best quality whose file fits, in bits per pixel of IN.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="auto|1|2",
            help="Code at full or half size; auto takes what restores best within the bytes of --target-bpp, "
            "or of the plain codec at --quality.",
        ),
    ] = "auto",
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
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compress a picture into an ordinary file of the codec, from which `decompress` restores more.

    Without --model the shipped or installed model of the codec is used. The file is restored once, to report
    the PSNR that it gives.
    """
    session: Session = ctx.obj
    if plain and model_reference is not None:
        raise UsageError("give either --plain or --model")
    wanted = parse_scale(scale)
    codec = session.codec(codec_name, options)
    own_extensions = codec.extension, *codec.aliases
    if target.suffix.lower() not in (*own_extensions, CONTAINER_EXTENSION):
        named = target.suffix or "no extension"
        raise UsageError(f"{target}: codec {codec.name} writes {codec.extension} files, not {named}")
    check_new_file(target, force)

    from vcframe import coder
    from vcframe.images import luma, read_image, write_bytes
    from vcframe.metrics import psnr

    image = read_image(source, background)
    model = None if plain else _find_model(model_reference, codec, device)
    result = coder.compress(
        image, codec, quality=quality, target_bpp=target_bpp, model=model, scale=wanted if model else None
    )
    in_container = is_container(result.data)
    if in_container != (target.suffix.lower() == CONTAINER_EXTENSION):
        better = f"{target.stem}{CONTAINER_EXTENSION if in_container else codec.extension}"
        reason = "has no place for what restores it" if in_container else "needs no container"
        raise UsageError(f"a {codec.name} file {reason}: name it {better}")

    def this_model(model_id: str, codec: Codec) -> Model:
        assert model is not None
        return model

    restored = coder.decompress(result.data, session.registry, this_model).image
    psnr_db = psnr(image, luma(restored) if image.ndim == 2 else restored)
    write_bytes(target, result.data)
    height, width = image.shape[:2]
    if as_json:
        print_json(
            {
                "file": str(target),
                "codec": codec.config(),
                "codec_version": codec.version(),
                "model": model.id if model and result.scale else None,
                "scale": result.scale,
                "quality": result.quality,
                "num_bytes": result.num_bytes,
                "bpp": result.bpp,
                "psnr_db": psnr_db,
                "size": [height, width],
                "coded_size": list(result.description.shape[:2]),
            }
        )
        return
    coded_height, coded_width = result.description.shape[:2]
    by = "plain codec"
    if model is not None and result.scale is not None:
        by = f"model {model.id}, coded at {coded_width}x{coded_height}"
    elif model is not None:
        by += ", which no network improves on here"
    print(
        f"{target}: {result.num_bytes:,} bytes, {result.bpp:.3f} bpp of {width}x{height}, "
        f"{codec.name} quality {result.quality:g}, {by}; restores to {psnr_db:.2f} dB"
    )


def decompress(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A compressed file.", show_default=False)],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The picture file to write, for example PNG.", show_default=False),
    ],
    model_reference: ModelReference = None,
    device: Device = "auto",
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Refuse larger pictures.")
    ] = DEFAULT_MAX_PIXELS,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Restore a picture; the file itself says which codec and model made it.

    --model is only needed where that model is not installed: it says where it is.
    """
    session: Session = ctx.obj
    check_new_file(target, force)
    data = read_bytes(source)

    from vcframe import coder
    from vcframe.images import write_image

    def find(model_id: str, codec: Codec) -> Model:
        model = _find_model(model_reference or model_id, codec, device)
        if model.id != model_id:
            raise UsageError(
                f"{source} was made with model {model_id}, and {model_reference} is model {model.id}"
            )
        return model

    restored = coder.decompress(data, session.registry, find, max_pixels)
    write_image(target, restored.image)
    height, width = restored.image.shape[:2]
    if restored.model_id is None:
        note(
            f"{source} has no vcframe payload: decoded as the ordinary {restored.codec_name} file that it is"
        )
    if as_json:
        print_json(
            {
                "file": str(target),
                "codec": restored.codec_name,
                "model": restored.model_id,
                "size": [height, width],
                "coded_size": list(restored.coded_size),
            }
        )
        return
    if restored.model_id is None:
        print(f"{target}: {width}x{height} from {restored.codec_name}")
        return
    coded_height, coded_width = restored.coded_size
    print(
        f"{target}: {width}x{height} from {restored.codec_name} at {coded_width}x{coded_height}, "
        f"restored by model {restored.model_id}"
    )


def _find_model(reference: str | None, codec: Codec, device: str) -> Model:
    from vcframe.model import find_model

    return find_model(reference, codec, torch_device(device))

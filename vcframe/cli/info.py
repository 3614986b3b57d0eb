"""`vcframe info`: what is inside a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcframe.cli.common import Json, MaxPixels, Session, print_json, read_bytes
from vcframe.codec import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from vcframe.coder import Contents


def info(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of a codec, or - for standard input.")
    ],
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    as_json: Json = False,
) -> None:
    """Say what is inside a file: codec, sizes, rate, model.

    Nothing is decoded; a damaged file is an error.
    """
    session: Session = ctx.obj

    from vcframe.coder import inspect

    data = read_bytes(source)
    facts = _facts(inspect(data, session.registry, max_pixels), len(data))
    if as_json:
        print_json({"file": str(source), **facts})
        return
    for name, text in _lines(facts).items():
        print(f"{name:<13} {text}")


def _facts(contents: Contents, num_bytes: int) -> dict[str, Any]:
    height, width = contents.size
    facts: dict[str, Any] = {
        "codec": contents.codec.name,
        "size": [height, width],
        "coded_size": list(contents.coded_size),
        "grey": contents.grey,
        "num_bytes": num_bytes,
        "bpp": 8 * num_bytes / (height * width),
        "payload": None,
    }
    if (payload := contents.payload) is not None:
        from vcframe.model import list_models

        facts["payload"] = {
            # All that the codec's own file would do without, the carrier's head included.
            "num_bytes": num_bytes - len(contents.stream),
            "model": payload.model_id,
            "model_installed": any(model.id == payload.model_id for model in list_models()),
            "scale": payload.scale,
            "level": payload.level,
            "num_coefficients": len(payload.coefficients),
            "check": "ok",
        }
    return facts


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as text, by their names."""
    (height, width), (coded_height, coded_width) = facts["size"], facts["coded_size"]
    lines = {
        "codec": facts["codec"],
        "original size": f"{width}x{height} pixels, {'grey' if facts['grey'] else 'colour'}",
        "coded size": f"{coded_width}x{coded_height} pixels",
        "bytes": f"{facts['num_bytes']:,}, {facts['bpp']:.3f} bpp of the original",
        "payload": "none: an ordinary file, decoded as it is",
    }
    if (payload := facts["payload"]) is not None:
        missing = "not installed: give it to decompress with --model"
        lines |= {
            "payload": f"{payload['num_bytes']} bytes, check value ok",
            "model": f"{payload['model']}, {'installed' if payload['model_installed'] else missing}",
            "scale": str(payload["scale"]),
            "quality level": f"{payload['level']} of 255",
            "coefficients": str(payload["num_coefficients"] or "none"),
        }
    return lines

"""`vcframe virtual fit` and `virtual report`: a virtual codec as a product of its own."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated

import typer

from vcframe.cli.common import (
    DEFAULT_MINUTES,
    INTERRUPTED,
    CodecName,
    CodecOptions,
    Data,
    Device,
    Force,
    Json,
    Minutes,
    ProgressBar,
    RunFolder,
    Seed,
    Session,
    Steps,
    check_new_file,
    console,
    fail,
    print_json,
)
from vcframe.cli.training import show_progress

app = typer.Typer(
    help="Fit a differentiable stand-in for a codec, and measure how well it imitates it.",
    no_args_is_help=True,
)


@app.command("fit")
def fit(
    ctx: typer.Context,
    codec_name: CodecName,
    out: RunFolder,
    options: CodecOptions = None,
    data: Data = None,
    scale: Annotated[
        int, typer.Option(metavar="1|2", help="Full-size or plainly halved pictures are what it sees.")
    ] = 1,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fit a virtual codec from pictures; the same command continues an interrupted run.

    DIR receives virtual.safetensors, report.json, config.json and the checkpoint.
    """
    session: Session = ctx.obj
    codec = session.codec(codec_name, options)

    from vcframe.learning import Interrupted, TrainConfig, fit_virtual

    config = TrainConfig.checked(
        codec=codec.config(),
        schedule="virtual",
        scale=scale,
        data=tuple(data or ()),
        out=out,
        minutes=DEFAULT_MINUTES if minutes is None and steps is None else minutes,
        steps=steps,
        seed=seed,
        device=device,
    )
    try:
        with ProgressBar() as bar:
            result = fit_virtual(config, session.registry, functools.partial(show_progress, bar))
    except Interrupted as error:
        fail(ctx, str(error), status=INTERRUPTED)
        return
    if as_json:
        print_json({"path": str(result.model_path), **result.report})
        return
    fidelity = result.report["fidelity"]
    print(f"{result.model_path}: virtual codec {result.report['virtual']} of {codec.name}")
    print(
        f"on held-out pictures: {fidelity['pixel']:.0%} of the identity's error, "
        f"net bits {fidelity['bits_net']['median']:.1%} off (median)"
    )


@app.command("report")
def report(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A virtual codec.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Option(
            metavar="PATH", help="Folder, file or glob of unseen pictures; repeatable.", show_default=False
        ),
    ],
    qualities: Annotated[
        list[float] | None,
        typer.Option(
            "--quality",
            "-q",
            metavar="Q",
            help="Measure at this quality; repeatable. Without it, over the codec's sweep.",
            show_default=False,
        ),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(metavar="N", min=32, help="Only the middle NxN of each picture.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Also write everything there.", show_default=False),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure a virtual codec against the real one, beside the stand-ins that plugins offer.

    Stand-ins come from one-file plugins: vcframe --plugin FILE virtual report ...
    """
    session: Session = ctx.obj
    if out is not None:
        check_new_file(out, force)

    from vcframe.bench.virtual import fidelity_table, report_fidelity
    from vcframe.images import find_images, write_bytes
    from vcframe.virtual import VirtualCodec

    virtual, paths = VirtualCodec.load(file), find_images(images)
    with ProgressBar() as bar:
        measured = report_fidelity(
            virtual,
            session.registry,
            paths,
            qualities,
            side,
            lambda fraction: bar.update(fraction, "measuring"),
        )
    content = measured.to_json()
    if out is not None:
        write_bytes(out, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
    if as_json:
        print_json(content)
    else:
        console().print(fidelity_table(measured))
        console().print(content["convention"], style="dim", markup=False)

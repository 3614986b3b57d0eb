"""`vcframe train`, `join`, `evaluate` and `demo`: the verbs about models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    ModelReference,
    ProgressBar,
    RunFolder,
    Seed,
    Session,
    Steps,
    check_new_file,
    console,
    fail,
    note,
    parse_scale,
    print_json,
    torch_device,
)
from vcframe.codec import UsageError
from vcframe.metrics import BD_MAX_BPP

if TYPE_CHECKING:
    from vcframe.learning import Progress

DEMO_MINUTES = 4.0


def train(
    ctx: typer.Context,
    codec_name: CodecName,
    out: RunFolder,
    options: CodecOptions = None,
    data: Data = None,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="joint|post|adaptation|paper",
            help="How the networks alternate; post trains the post-processing network alone, adaptation what "
            "corrects it for each picture, from a model that there is (--start-from).",
        ),
    ] = "joint",
    preset: Annotated[str, typer.Option(metavar="small|paper", help="Which networks.")] = "small",
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="both|all|1|2|4",
            help="Code at full, half or quarter size; both trains the first two, all the three, one after "
            "the other in equal shares of the time, and compress chooses. Default: both (paper: 2).",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality", "-q", metavar="Q", help="The one quality of schedule paper.", show_default=False
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start-from", metavar="FILE|ID", help="Begin with the networks of a model.", show_default=False
        ),
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    dssim: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            help="Weight of structural similarity beside the squared error in the adaptation (0), and in "
            "schedule paper's description network (1).",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model around a codec; the same command continues an interrupted run.

    DIR receives model.safetensors, report.json, config.json and the checkpoint.
    """
    session: Session = ctx.obj
    codec = session.codec(codec_name, options)

    from vcframe.learning import Interrupted, TrainConfig, fit_scales
    from vcframe.networks import SCALES

    if schedule == "virtual":
        raise UsageError("--schedule virtual: vcframe virtual fit does that")
    scale = scale or ("2" if schedule == "paper" else "both")
    several = {"both": SCALES[:2], "all": SCALES}
    if scale not in (*several, *map(str, SCALES)):
        raise UsageError(f"--scale {scale}: give both, all, 1, 2 or 4")
    if scale in several and schedule == "paper":
        raise UsageError(f"--scale {scale}: schedule paper trains one scale, give 1 or 2")
    scales = several[scale] if scale in several else (int(scale),)
    config = TrainConfig.checked(
        codec=codec.config(),
        schedule=schedule,
        preset=preset,
        scale=scales[0],
        quality=quality,
        data=tuple(data or ()),
        start=start,
        out=out,
        minutes=DEFAULT_MINUTES if minutes is None and steps is None else minutes,
        steps=steps,
        seed=seed,
        device=device,
        **({} if dssim is None else {"dssim": dssim}),
    )
    try:
        with ProgressBar() as bar:
            result = fit_scales(
                config, scales, session.registry, lambda progress: show_progress(bar, progress)
            )
    except Interrupted as error:
        fail(ctx, str(error), status=INTERRUPTED)
        return
    if as_json:
        print_json({"model_path": str(result.model_path), **result.report})
        return
    print(f"{result.model_path}: model {result.report['model']}")
    runs = result.report.get("scales", {config.scale: result.report})
    for name, report in runs.items():
        gain = report["validation_bd_rate_percent"]
        judged = (
            "" if gain is None else f", BD-rate {gain:+.1f} % against plain resampling on held-out pictures"
        )
        length = f"{report['steps']} steps in {report['minutes']} min on {report['data']}"
        print(f"scale {name}: {length}{judged}")


def evaluate(
    ctx: typer.Context,
    codec_name: CodecName,
    images: Annotated[
        list[str],
        typer.Option(
            metavar="PATH", help="Folder, file or glob of pictures; repeatable.", show_default=False
        ),
    ],
    options: CodecOptions = None,
    plain_options: Annotated[
        list[str] | None,
        typer.Option(
            "--plain-option",
            metavar="KEY=VALUE",
            help="An option of the plain codec alone; repeatable.",
            show_default=False,
        ),
    ] = None,
    model_reference: ModelReference = None,
    qualities: Annotated[
        list[float] | None,
        typer.Option(
            "--quality",
            "-q",
            metavar="Q",
            help="Measure the model at this quality only, as one of schedule paper needs; repeatable.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="auto|1|2|4",
            help="One scale of the model alone; auto measures what compress chooses from.",
        ),
    ] = "auto",
    max_bpp: Annotated[
        list[float] | None,
        typer.Option(
            metavar="BPP",
            help=f"Where the range of the BD-rate ends, {BD_MAX_BPP:g} if nothing is said; repeatable: "
            "the next range begins there.",
            show_default=False,
        ),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            "--vcframe-of",
            metavar="FILE.json",
            help="Take vcframe's files from this earlier result and measure the plain codec alone.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Also write everything there.", show_default=False),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure the plain codec and a model on pictures: rate-distortion table and BD-rate per picture.

    vcframe codes with the options that the model was trained with, the plain codec with its defaults; an
    --option holds for both, a --plain-option for the plain codec alone.
    """
    session: Session = ctx.obj
    wanted = parse_scale(scale)
    plain = session.codec(codec_name, [*(options or ()), *(plain_options or ())])
    if out is not None:
        check_new_file(out, force)

    from vcframe.bench.evaluate import evaluate as measure
    from vcframe.bench.printing import print_evaluation
    from vcframe.coder import check_model
    from vcframe.images import find_images, write_bytes
    from vcframe.model import find_model

    paths = find_images(images)
    model = find_model(model_reference, plain, torch_device(device))
    check_model(model, plain, qualities[0] if qualities else None, wanted)
    codec = session.codec_of(model, options)
    with ProgressBar() as bar:
        evaluation = measure(
            codec,
            model,
            paths,
            qualities or None,
            plain,
            on_progress=lambda done, total, name: bar.update(done / total, "evaluating", name),
            ends_bpp=max_bpp or (BD_MAX_BPP,),
            scale=wanted,
            earlier=None if earlier is None else _read_json(earlier),
        )
    if out is not None:
        write_bytes(out, json.dumps(evaluation.to_json(), indent=1, allow_nan=False).encode() + b"\n")
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation, console())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--vcframe-of {path}: not readable as JSON ({error})") from error


def join(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model file to write.", show_default=False)],
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Model files of one codec.", show_default=False),
    ],
    force: Force = False,
) -> None:
    """Put models of one codec for different scales into one file, from which compress chooses."""
    check_new_file(out, force)

    from vcframe.model import Model

    model = Model.joined([Model.load(path) for path in models])
    model.save(out)
    print(f"{out}: model {model.id}, scales {' and '.join(map(str, model.card.scales))}")


def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.", show_default=False)],
    minutes: Annotated[float, typer.Option(metavar="M", help="Length of the training.")] = DEMO_MINUTES,
    as_json: Json = False,
) -> None:
    """See it work: train a WebP model, compress a photograph, compare with plain WebP at equal bytes."""
    session: Session = ctx.obj

    from vcframe.demo import print_demo, run_demo
    from vcframe.learning import Interrupted

    try:
        with ProgressBar() as bar:
            result = run_demo(session.registry, out, minutes, lambda progress: show_progress(bar, progress))
    except Interrupted as error:
        fail(ctx, str(error), status=INTERRUPTED)
        return
    if as_json:
        print_json(result.to_json())
    else:
        print_demo(result, console())


def show_progress(bar: ProgressBar, progress: Progress) -> None:
    """One step of a run on the bar; pictures that were left out as notes."""
    from vcframe.learning.loop import SKIPPED

    if progress.phase == SKIPPED:
        note(f"skipped: {progress.text}")
    else:
        bar.update(progress.fraction, progress.phase, progress.text, progress.remaining_s)

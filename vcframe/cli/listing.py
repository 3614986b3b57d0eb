"""`vcframe codecs`, `plugins`, `models`, `metrics`: what is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcframe.cli.common import Json, Session, console, note, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from vcframe.codec import Codec
    from vcframe.model import ModelFile
    from vcframe.networks import NetworkCost


def print_version(wanted: bool) -> None:
    """`vcframe --version`."""
    if wanted:
        import vcframe

        print(f"vcframe {vcframe.__version__}")
        raise typer.Exit


def codecs(
    ctx: typer.Context,
    versions: Annotated[
        bool,
        typer.Option(
            "--versions",
            help="Load each codec's library (slower) and print its version, or why it cannot run here.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the codecs: file extension, quality scale, options with their defaults."""
    session: Session = ctx.obj
    rows = [
        _codec_row(record.codec(), record.plugin, versions) for record in session.registry.codecs.values()
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("no codecs are installed; see `vcframe plugins`")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("codec", "file", "quality, worst to best", "options", "plugin", *["version"] * versions)
    for row in rows:
        scale = row["quality"]
        quality = f"{scale['worst']:g} .. {scale['best']:g}, step {scale['step']:g}: {scale['meaning']}"
        options = " ".join(f"{key}={value}" for key, value in row["options"].items()) or "-"
        cells = [row["codec"], row["extension"], quality, options, row["plugin"]]
        if versions:
            cells.append(row["version"] or "unavailable")
        table.add_row(*map(escape, cells))
    console().print(table)
    for row in rows:
        if row.get("unavailable") is not None:
            note(f"codec {row['codec']} cannot run here: {row['unavailable']}")


def _codec_row(codec: Codec, plugin: str, versions: bool) -> dict[str, Any]:
    scale = codec.quality_scale
    row: dict[str, Any] = {
        "codec": codec.name,
        "extension": codec.extension,
        "aliases": list(codec.aliases),
        "quality": {
            "worst": scale.sweep[0],
            "best": scale.sweep[-1],
            "step": scale.step,
            "meaning": scale.meaning,
            "sweep": list(scale.sweep),
        },
        "options": codec.config()["options"],
        "traits": dataclasses.asdict(codec.traits),
        "plugin": plugin,
    }
    if versions:
        from vcframe.registry import unavailable_reason

        row["unavailable"] = unavailable_reason(codec)
        row["version"] = codec.version() if row["unavailable"] is None else None
    return row


def plugins(ctx: typer.Context, as_json: Json = False) -> None:
    """List the plugins that were found, where each came from, and why one could not be used."""
    if ctx.invoked_subcommand is not None:
        return
    session: Session = ctx.obj
    records = session.registry.plugins
    if as_json:
        print_json([dataclasses.asdict(record) for record in records])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("plugin", "status", "codecs", "distribution", "source")
    for record in records:
        distribution = f"{record.distribution} {record.version}".strip()
        cells = (record.name, record.status, ", ".join(record.codecs) or "-", distribution, record.source)
        table.add_row(*map(escape, cells))
    console().print(table)
    for record in records:
        if record.reason is not None:
            note(f"plugin {record.name} failed: {record.reason}")


def models(as_json: Json = False) -> None:
    """List the trained models, shipped and installed, and what each network preset costs."""
    from vcframe.model import MODELS_VARIABLE, list_models
    from vcframe.networks import preset_costs

    found, costs = list_models(), preset_costs()
    if as_json:
        print_json(
            {
                "models": [_model_row(model) for model in found],
                "presets": [dataclasses.asdict(cost) for cost in costs],
            }
        )
        return
    if found:
        console().print(_model_table(found))
    else:
        note(
            f"no models are installed; make one with `vcframe train`, or point {MODELS_VARIABLE} at a folder"
        )
    console().print(_preset_table(costs))


def metrics(ctx: typer.Context, as_json: Json = False) -> None:
    """List the metrics of a benchmark, and why one cannot run here."""
    from vcframe.bench.metrics import METRICS, all_metrics
    from vcframe.registry import unavailable_reason

    session: Session = ctx.obj
    rows = [
        {
            "metric": metric.name,
            "unit": metric.unit,
            "better": metric.better,
            "from": "vcframe" if metric.name in METRICS else "a plugin",
            "unavailable": unavailable_reason(metric),
        }
        for metric in all_metrics(session.registry).values()
    ]
    if as_json:
        print_json(rows)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("metric", "unit", "better", "from", "here")
    for row in rows:
        here = "yes" if row["unavailable"] is None else "no"
        table.add_row(row["metric"], escape(row["unit"] or "-"), row["better"], row["from"], here)
    console().print(table)
    for row in rows:
        if row["unavailable"] is not None:
            note(f"metric {row['metric']} cannot run here: {row['unavailable']}")


def _model_row(model: ModelFile) -> dict[str, Any]:
    card = model.card.model_dump(mode="json")
    return {"id": model.id, "path": str(model.path), "num_bytes": model.path.stat().st_size, **card}


def _model_table(found: Sequence[ModelFile]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "codec", "scale", "preset", "KiB", "trained", "validation", "file", title="Models")
    for model in found:
        card = model.card
        options = " ".join(f"{key}={value}" for key, value in card.codec["options"].items())
        runs = card.training.values()
        trained = ", ".join(f"{run.get('minutes', '?')} min, {run.get('steps', '?')} steps" for run in runs)
        gains = [run.get("validation_bd_rate_percent") for run in runs]
        data = ", ".join(dict.fromkeys(str(run.get("data", "?")) for run in runs))
        table.add_row(
            model.id,
            escape(f"{card.codec_name} {options}".strip()),
            ", ".join(map(str, card.scales)),
            f"{card.preset}, {'grey' if card.channels == 1 else 'colour'}",
            f"{model.path.stat().st_size / 1024:.0f}",
            escape(f"{trained}, {data}"),
            ", ".join("-" if gain is None else f"{gain:+.1f} %" for gain in gains),
            escape(model.path.name),
        )
    table.caption = "validation: BD-rate against plain resampling around the same codec, on held-out pictures"
    return table


def _preset_table(costs: Sequence[NetworkCost]) -> Table:
    from rich.table import Table

    table = Table("preset", "scale", "network", title="Network presets")
    table.add_column("parameters", justify="right")
    table.add_column("kMAC per original pixel", justify="right")
    for cost in costs:
        counted = f"{cost.num_parameters:,}", f"{cost.macs_per_pixel / 1000:.2f}"
        table.add_row(cost.preset, str(cost.scale), cost.role, *counted)
    return table

"""The fidelity of a virtual codec on picture files, beside the stand-ins that plugins offer."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vcframe.bench.provenance import command_line
from vcframe.images import as_colour, luma, read_image
from vcframe.learning.coded import CodingRoom
from vcframe.learning.fidelity import CONVENTION, Agreement, Fidelity, measure_fidelity
from vcframe.learning.sources import middle
from vcframe.registry import Registry, warn_once
from vcframe.virtual import VirtualCodec

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA, SCHEMA_VERSION = "vcframe-virtual-fidelity", 1
WHOLE = 1 << 30


@dataclass(frozen=True)
class VirtualReport:
    """What was measured, on what, and under which convention."""

    command: str
    codec: dict[str, Any]
    codec_version: str
    id: str
    card: dict[str, Any]
    pictures: list[dict[str, Any]]
    """Name, SHA-256 of the file, and the sides that were measured."""
    qualities: list[float]
    fidelity: dict[str, Fidelity]
    """By name: the file's own as `fitted`, stand-ins by their plugin."""
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "convention": CONVENTION}
        return head | dataclasses.asdict(self)


def report_fidelity(
    virtual: VirtualCodec,
    registry: Registry,
    paths: Sequence[Path],
    qualities: Sequence[float] | None,
    side: int | None,
    on_progress: Callable[[float], None],
) -> VirtualReport:
    """Measure at `qualities` (all of the codec's sweep) on whole pictures, or their middle of `side`.

    Raises `ImageError` for a file that is no picture, `PluginError` where the codec is not installed and
    `UsageError` for a quality outside its range.
    """
    card = virtual.card
    codec = registry.codec_from_config(card.codec)
    if codec.version() != card.codec_version:
        warn_once(f"fitted to {card.codec_version}, measured against {codec.version()}")
    qualities = [codec.quality_scale.check(q) for q in qualities or codec.quality_scale.sweep]
    pictures = [middle(as_colour(read_image(path)), side or WHOLE) for path in paths]
    stand_ins = dict(registry.virtual_codecs(codec))
    room = CodingRoom(codec)
    try:
        fidelity = measure_fidelity(
            {"fitted": virtual.network.eval(), **stand_ins},
            room,
            [luma(picture) if card.channels == 1 else picture for picture in pictures],
            qualities,
            stand_ins.keys(),
            on_progress,
        )
    finally:
        room.close()
    return VirtualReport(
        command=command_line(),
        codec=card.codec,
        codec_version=codec.version(),
        id=virtual.id,
        card=card.model_dump(mode="json"),
        pictures=[
            {
                "name": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "height": picture.shape[0],
                "width": picture.shape[1],
            }
            for path, picture in zip(paths, pictures, strict=True)
        ],
        qualities=qualities,
        fidelity=fidelity,
        versions={"torch": torch.__version__},
    )


def fidelity_table(report: VirtualReport) -> Table:
    """One row for each virtual codec."""
    from rich.markup import escape
    from rich.table import Table

    counts = f"{len(report.pictures)} pictures, {len(report.qualities)} qualities"
    table = Table("virtual codec", title=f"Fidelity to {escape(report.codec['codec'])}: {counts}")
    for heading in ("pixel", "bits net", "p90", "bits file", "p90", "rank"):
        table.add_column(heading, justify="right")
    for heading in ("random: error, bits", "learned: error, bits", "predicted, real change"):
        table.add_column(heading, justify="right")
    for name, row in report.fidelity.items():
        table.add_row(
            escape(name),
            f"{row.pixel:.3f}",
            *(f"{value:.1%}" for s in (row.bits_net, row.bits_file) for value in (s.median, s.p90)),
            _number(row.rank),
            _cosines(row.random),
            _cosines(row.learned),
            f"{row.learned.predicted:+.3f}, {row.learned.real:+.3f}",
        )
    return table


def _cosines(agreement: Agreement) -> str:
    return f"{_number(agreement.error)}, {_number(agreement.bits)}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"

"""What each step of the learner adds: variants of one system, trained for equally many steps.

nice python benchmarks/ablations.py --data photographs --images kodak --steps 4000
python benchmarks/ablations.py --report    # writes docs/ablations.md and its figures from the results
python benchmarks/ablations.py --check     # exits 1 if these are stale

The variants of one size share the first half of their steps, post-processing behind plain resampling. Each
spends the other half in its own way and keeps its LAST networks, so that a step that loses shows. None has an
adaptation. A run that is stopped continues; what is finished is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import gain, markdown, percent, replace_part

import vcframe
from vcframe.bench.evaluate import evaluate
from vcframe.bench.evaluation import Evaluation, ImageRow
from vcframe.bench.provenance import command_line, commit, machine, versions
from vcframe.codec import Codec, UsageError, VcframeError
from vcframe.images import find_images, write_bytes
from vcframe.learning import Progress, TrainConfig, fit
from vcframe.learning.loop import MODEL, Run
from vcframe.learning.validation import measure, measured_slopes
from vcframe.metrics import RatePoint, psnr_at_bpp
from vcframe.model import Card, Model
from vcframe.networks import build_networks, without_idle
from vcframe.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
IDENTITY = Path(__file__).parent / "virtual_codecs/identity.py"
SCHEMA, SCHEMA_VERSION = "vcframe-ablations", 1
SEEDS = (0, 1)
"""Of the two halves: with the same one the second would go through the first's crops again."""
SETTINGS: dict[str, Any] = {}
"""Of every training, beside those below; the tests make it small."""
RATES = tuple(float(rate) for rate in np.geomspace(0.04, 0.4, 21).round(4))
"""Of the mean curves, bits per pixel."""
GAIN_BPP = (0.10, 0.20, 0.30)

Plan = tuple[tuple[str, float], ...]
POST: Plan = (("post", 1.0),)
JOINT: Plan = (("virtual", 0.1), ("joint", 0.9))
TUNED: Plan = (("virtual", 0.1), ("joint", 0.5), ("finish", 0.4))
ALTERNATION: Plan = (("virtual", 10 / 87), ("description", 5 / 87), ("post", 14 / 87)) * 3
"""The paper's, in the proportions of schedule `paper`, whose first phase is the shared half."""
PAPER: dict[str, Any] = {"schedule": "paper", "plan": ALTERNATION, "channels": 3}
"""The paper's order and objective; our networks and the whole sweep, so that there is a curve in colour."""


@dataclass(frozen=True)
class Variant:
    """How a system spends the second half of its steps."""

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    plugin: Path | None = None
    """Whose virtual codec is used, if not our own."""


BICUBIC, POST_ONLY, FULL = "bicubic", "post", "full"
TRAINED = {
    POST_ONLY: Variant("bicubic + post-processing", {"schedule": "post", "plan": POST}),
    # The identity's bits have no slope: there is no rate in this one.
    "straight": Variant("straight-through", {"schedule": "joint", "plan": (("joint", 1.0),)}, IDENTITY),
    "paper-no-dssim": Variant("the paper's schedule without DSSIM", {**PAPER, "dssim": 0.0}),
    "paper": Variant("the paper's schedule", {**PAPER, "dssim": 1.0}),
    "joint-no-rate": Variant("joint without rate", {"schedule": "joint", "plan": JOINT, "rate": 0.0}),
    "joint": Variant("joint with rate", {"schedule": "joint", "plan": JOINT}),
    "tuned": Variant("joint with rate, fine-tune", {"schedule": "joint", "plan": TUNED}),
    FULL: Variant("post-processing at full size", {"schedule": "post", "plan": POST, "scale": 1}),
}
CHOICES = {
    "choice": ("joint with rate, scale choice", "joint"),
    "tuned-choice": ("joint with rate, fine-tune, scale choice", "tuned"),
}
"""Title, and the variant at half size that is joined with the one at full size."""
TITLES = {
    BICUBIC: "bicubic alone",
    **{name: variant.title for name, variant in TRAINED.items()},
    **{name: title for name, (title, _) in CHOICES.items()},
}
"""Of every measured system, in the order of the table."""


class LastRun(Run):
    """Ends with its last networks: a run that keeps its best would hide what a step loses."""

    def _validate(self, name: str) -> None:
        if name == "start" and self.config.schedule == "joint":
            # The first half's curve, whose slopes the joint phase takes.
            curve = measure(self.shop, with_networks=True)
            self.state.slope_units, self.state.slopes = list(curve.units), measured_slopes(curve)
        self.best = self._weights(("description", "post"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        if not (given.report or given.check):
            if missing := [name for name in ("data", "images", "steps") if getattr(given, name) is None]:
                raise UsageError(f"give --{missing[0]}, or --report or --check")
            for name in given.codec:
                study = Study(Registry.load().codec(name), given.data, given.steps, given.work)
                content = study.measured(find_images([str(given.images)]))
                given.out.mkdir(parents=True, exist_ok=True)
                write_bytes(given.out / f"{name}.json", json.dumps(content, indent=1).encode() + b"\n")
        files = report(given.page, read_results(given.out))
    except (OSError, VcframeError) as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if given.check:
            print(f"{path} is stale: run python benchmarks/ablations.py --report", file=sys.stderr)
        else:
            write_bytes(path, files[path].encode())
    return int(given.check and bool(stale))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What each step of the learner adds.")
    parser.add_argument("--codec", nargs="+", default=["jpeg", "webp"], metavar="NAME")
    parser.add_argument("--data", metavar="DIR", help="pictures to train on")
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures to measure on")
    parser.add_argument("--steps", type=int, metavar="N", help="of every variant")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/ablations", metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), metavar="DIR")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/ablations.md", metavar="FILE")
    parser.add_argument("--report", action="store_true", help="train and measure nothing, write the page")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is stale")
    return parser


class Study:
    """Every variant of one codec, and the folder that their runs are in."""

    def __init__(self, codec: Codec, data: str, steps: int, work: Path) -> None:
        if steps < 10:
            raise UsageError("--steps: at least 10")
        self.codec, self.data, self.steps = codec, data, steps
        # A run that is continued with another number of steps would not be equal to the others.
        self.folder = work / f"{codec.name}-{steps}"

    def measured(self, images: Sequence[Path]) -> dict[str, Any]:
        """Train and measure whatever is missing; everything about it, ready for JSON."""
        models = self.models()
        measured = {name: self._evaluation(name, model, images) for name, model in models.items()}
        for name, (_, half) in CHOICES.items():
            joined = Model.joined([models[FULL], models[half]])
            (self.folder / name).mkdir(exist_ok=True)
            joined.save(self.folder / name / MODEL)
            measured[name] = chosen(measured[FULL], measured[half], joined)
        one = measured[BICUBIC]
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "command": command_line(),
            "commit": commit(),
            "versions": versions(),
            "machine": machine(1, torch.get_num_threads()),
            "codec": one.codec,
            "codec_version": one.codec_version,
            "convention": one.convention.partition("; ")[2],
            "steps": self.steps,
            "seeds": SEEDS,
            "plain": {
                "mean_curve": mean_curve([row.plain for row in one.images]),
                "images": [{"image": row.name, "curve": points(row.plain)} for row in one.images],
            },
            "variants": {name: described(measured[name], measured[POST_ONLY]) for name in TITLES},
        }

    def models(self) -> dict[str, Model]:
        """Train what is not there yet."""
        half = self.steps // 2
        models = {BICUBIC: self._bicubic()}
        for name, variant in TRAINED.items():
            scale = variant.settings.get("scale", 2)
            begin = {"schedule": "post", "plan": POST, "scale": scale, "seed": SEEDS[0]}
            first = self._trained(f"first-{scale}", half, begin)
            go_on = {"scale": scale, "start": str(first), "seed": SEEDS[1], **variant.settings}
            models[name] = Model.load(self._trained(name, self.steps - half, go_on, variant.plugin))
        return models

    def _trained(
        self, name: str, steps: int, settings: Mapping[str, Any], plugin: Path | None = None
    ) -> Path:
        own = {"codec": self.codec.config(), "data": (self.data,), "out": self.folder / name, "steps": steps}
        config = TrainConfig.checked(**own, **SETTINGS, **settings)
        path, record = config.out / MODEL, config.out / "config.json"
        # The model is written last: with the same settings beside it, it is finished.
        if path.exists() and record.read_text("utf-8") == config.model_dump_json(indent=1):
            return path

        def show(progress: Progress) -> None:
            if progress.step % 50 == 0:
                print(f"{self.folder.name} {name}: {progress.phase} {progress.step}/{steps}", flush=True)

        return fit(config, Registry.load([plugin] if plugin else []), show, LastRun).model_path

    def _bicubic(self) -> Model:
        """Networks before their first step add nothing to plain resampling."""
        torch.manual_seed(SEEDS[0])
        block = self.codec.traits.block
        card = Card(
            codec=self.codec.config(),
            codec_version=self.codec.version(),
            preset="small",
            block=block,
            channels=3,
            training={2: {"schedule": "none", "steps": 0}},
            vcframe_version=vcframe.__version__,
        )
        return Model(card, {2: without_idle(build_networks("small", 2, block))})

    def _evaluation(self, name: str, model: Model, images: Sequence[Path]) -> Evaluation:
        path = self.folder / name / "evaluation.json"
        if path.exists():
            earlier = Evaluation.from_json(json.loads(path.read_text("utf-8")))
            digests = [hashlib.sha256(image.read_bytes()).hexdigest() for image in images]
            if (earlier.model_id, [row.sha256 for row in earlier.images]) == (model.id, digests):
                return earlier
        print(f"{self.folder.name} {name}: {len(images)} pictures are measured", flush=True)
        result = evaluate(self.codec, model, images, scale=model.card.scales[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(result.to_json()).encode())
        return result


def chosen(full: Evaluation, half: Evaluation, joined: Model) -> Evaluation:
    """An encoder that has the files of both sizes and the plain codec's.

    A joined model writes the same files but for its id, which is as long: nothing is coded again.
    """
    rows = []
    for one, two in zip(full.images, half.images, strict=True):
        if one.plain and two.plain:
            two = replace(two, vcframe=(*one.vcframe, *two.vcframe, *two.plain)).over(half.span)
        rows.append(two)
    card = joined.card.model_dump(mode="json")
    return replace(half, images=tuple(rows), scales=(1, 2), chooses=True, model_id=joined.id, card=card)


def described(measured: Evaluation, post: Evaluation) -> dict[str, Any]:
    """What the result file holds of one variant; `against_post` has bicubic + post-processing as anchor."""
    beside = []
    for row, anchor in zip(measured.images, post.images, strict=True):
        curve = tuple(anchor.choice) if anchor.vcframe else ()
        beside.append(replace(row, plain=curve).over(measured.span) if row.vcframe and curve else row)
    against = replace(measured, images=tuple(beside))
    return {
        "model_id": measured.model_id,
        "training": measured.card["training"],
        "summary": asdict(measured.summary),
        "against_post": asdict(against.summary),
        "fixed_rates": [asdict(rate) for rate in measured.fixed_rates],
        "mean_curve": mean_curve([row.choice for row in measured.images]),
        "images": [_picture(*rows) for rows in zip(measured.images, against.images, strict=True)],
    }


def _picture(row: ImageRow, against: ImageRow) -> dict[str, Any]:
    return {
        "image": row.name,
        "sha256": row.sha256,
        "bd_rate_percent": row.bd.percent,
        "reason": row.bd.reason,
        "covered": row.covered,
        "against_post_percent": against.bd.percent,
        "curve": points(row.choice),
    }


def points(curve: Sequence[RatePoint]) -> list[list[float]]:
    """Quality, bytes and PSNR of every file."""
    return [[point.quality, point.num_bytes, round(point.psnr_db, 4)] for point in curve]


def mean_curve(curves: Sequence[Sequence[RatePoint]]) -> list[dict[str, Any]]:
    """Mean PSNR at each of `RATES` over the `num_images` pictures whose curve reaches it."""
    rows = []
    for bpp in RATES:
        known = [db for curve in curves if (db := psnr_at_bpp(curve, bpp)) is not None]
        mean = math.fsum(known) / len(known) if known else None
        rows.append({"bpp": bpp, "num_images": len(known), "psnr_db": mean})
    return rows


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Content of every result by codec; raises `UsageError` naming what is none."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if (content.get("schema"), content.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
            raise UsageError(f"{path}: not a {SCHEMA} of version {SCHEMA_VERSION}: measure again")
        results[path.stem] = content
    return results


def report(page: Path, results: Mapping[str, dict[str, Any]]) -> dict[Path, str]:
    """The page with its results replaced and the figures beside it: what each file should hold."""
    figures = {codec: page.with_name(f"{page.stem}-{codec}.svg") for codec in results}
    parts = [section(codec, content, figures[codec].name) for codec, content in results.items()]
    body = "\n\n".join(parts) or "Nothing has been measured yet."
    files = {figures[codec]: figure(codec, content) for codec, content in results.items()}
    return {page: replace_part(page, "results", body), **files}


def section(codec: str, content: Mapping[str, Any], figure_name: str) -> str:
    """The table of one codec in Markdown, with its figure and convention."""
    gains = [f"gain at {bpp:.2f} bpp" for bpp in GAIN_BPP]
    head = ["variant", "BD-rate mean", "median", "quartiles", "pictures", "covered"]
    head += ["against bicubic + post-processing", *gains]
    rows = [head, ["---"] * len(head), [f"plain {codec}", "0 (anchor)", *["" for _ in head[2:]]]]
    rows += [_cells(name, content["variants"][name]) for name in TITLES]
    libraries = content["versions"]
    made = (
        f"{content['steps']} steps for each size of each variant, seeds {content['seeds']}; vcframe "
        f"{libraries['vcframe']}, torch {libraries['torch']}, {content['codec_version']}. "
        f"Convention: {content['convention']}. [Every picture](benchmarks/results/ablations/{codec}.json)."
    )
    return f"## {codec}\n\n![BD-rates of every variant]({figure_name})\n\n{markdown(rows)}\n\n{made}"


def _cells(name: str, variant: Mapping[str, Any]) -> list[str]:
    summary, rates = variant["summary"], {rate["bpp"]: rate for rate in variant["fixed_rates"]}
    quartiles = (percent(summary[f"{side}_quartile"]) for side in ("lower", "upper"))
    return [
        TITLES[name],
        percent(summary["mean"]),
        percent(summary["median"]),
        " .. ".join(quartiles),
        f"{summary['num_images'] - summary['num_missing']} of {summary['num_images']}",
        "n/a" if summary["covered"] is None else f"{summary['covered']:.0%}",
        "0 (anchor)" if name == POST_ONLY else percent(variant["against_post"]["mean"]),
        *(gain(rates[bpp]) for bpp in GAIN_BPP),
    ]


LABELS, WIDTH, ROW, TOP = 330, 900, 30, 34
TICKS = (-80, -60, -40, -20, 0, 25, 50, 100, 200, 400, 800)
STYLE = """
    text { font: 15px "DejaVu Sans", Verdana, sans-serif; fill: #1f2933; }
    .tick { font-size: 13px; text-anchor: middle; fill: #52606d; }
    line { stroke: #cbd2d9; }
    .zero { stroke: #3e4c59; stroke-width: 2; }
    rect { fill: #b2dfdb; }
    circle { fill: #00796b; fill-opacity: 0.55; }
    .mean { stroke: #b7791f; stroke-width: 3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e4e7eb; }
      .tick { fill: #b8c2cc; }
      line { stroke: #3a4552; }
      .zero { stroke: #cbd2d9; }
      rect { fill: #0c4a44; }
      circle { fill: #4db6ac; }
      .mean { stroke: #e0b35a; }
    }
  """


def figure(codec: str, content: Mapping[str, Any]) -> str:
    """The BD-rate of every picture, with quartiles and mean, as SVG; ratios of rates are equal distances."""
    variants = content["variants"]
    rows = {name: [image["bd_rate_percent"] for image in variants[name]["images"]] for name in TITLES}
    known = [value for values in rows.values() for value in values if value is not None]
    low, high = (math.log1p(bound([*known, 0.0]) / 100) for bound in (min, max))
    span = max(high - low, 0.1)

    def x(percent: float) -> str:
        return f"{LABELS + 20 + (math.log1p(percent / 100) - low) / span * (WIDTH - LABELS - 50):.1f}"

    bottom = TOP + ROW * len(rows)
    title = f"BD-rate against plain {codec}: dots are pictures, bars quartiles, lines means"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 12}" role="img" '
        'aria-labelledby="title">',
        f'  <title id="title">{title}</title>',
        f"  <style>{STYLE}</style>",
    ]
    for tick in TICKS:
        if low - 1e-9 <= math.log1p(tick / 100) <= high + 1e-9:
            kind = ' class="zero"' if tick == 0 else ""
            parts.append(f'  <line{kind} x1="{x(tick)}" x2="{x(tick)}" y1="{TOP - 8}" y2="{bottom}"/>')
            label = f"{tick:+d} %" if tick else "0"
            parts.append(f'  <text class="tick" x="{x(tick)}" y="{TOP - 14}">{label}</text>')
    for index, (name, values) in enumerate(rows.items()):
        middle, summary = TOP + ROW * index + ROW // 2, variants[name]["summary"]
        parts.append(f'  <text x="0" y="{middle + 5}">{TITLES[name]}</text>')
        if summary["mean"] is None:
            parts.append(f'  <text x="{LABELS + 20}" y="{middle + 5}">n/a</text>')
            continue
        left, right = x(summary["lower_quartile"]), x(summary["upper_quartile"])
        width = f"{float(right) - float(left):.1f}"
        parts.append(f'  <rect x="{left}" y="{middle - 8}" width="{width}" height="16"/>')
        parts += [f'  <circle cx="{x(v)}" cy="{middle}" r="3"/>' for v in values if v is not None]
        mean = x(summary["mean"])
        parts.append(f'  <line class="mean" x1="{mean}" x2="{mean}" y1="{middle - 11}" y2="{middle + 11}"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())

"""Write the tables and curves of README.md and docs/ out of what is committed in benchmarks/results.

python benchmarks/tables.py            # rewrite them
python benchmarks/tables.py --check    # exit 1 if one is stale

`kodak-*.json` are of `vcframe evaluate`, folders in `runs/` of `vcframe bench run`, their rows packed by
`gzip -9n`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcframe.bench.analysis import CHOOSING, PLAIN, RANGES, Analysis, System
from vcframe.bench.evaluation import SCHEMA, SCHEMA_VERSION, scale_name
from vcframe.bench.report.content import headline
from vcframe.bench.runs import Run, read_run
from vcframe.codec import UsageError, VcframeError
from vcframe.images import write_bytes

ROOT = Path(__file__).resolve().parents[1]
NO_NETWORKS = "no networks"
GAIN_BPP = (0.10, 0.15, 0.20, 0.30)
MAX_BPP = 1.3
"""Where the curves end: one codec that starts where the others end would push them together."""
COLOURS = (
    *("#1f6feb", "#c2410c", "#15803d", "#9333ea", "#be185d", "#0e7490"),
    *("#946200", "#4b5563", "#65a30d", "#1e3a8a", "#7f1d1d", "#d946ef"),
)
"""Of the codecs, those of the page (`vcframe/bench/report/style.css`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the tables and curves of committed results.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is stale")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="of the project")
    given = parser.parse_args(arguments)
    readme, page = given.root / "README.md", given.root / "docs/results.md"
    try:
        results = read_results(given.root / "benchmarks/results")
        runs = [read_run(folder) for folder in sorted((given.root / "benchmarks/results/runs").glob("*/"))]
        pages = {
            readme: replace_part(readme, "results", summary(results)),
            page: replace_part(page, "results", details(results)),
        }
        pages[page] = replace_part(page, "runs", "\n\n".join(map(run_details, runs)), pages[page])
        stale = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
        pictures = {given.root / f"docs/{run.name}.svg": run for run in runs}
        stale += [path for path, run in pictures.items() if not (path.exists() and is_of(path, run))]
        for path in stale:
            if given.check:
                print(f"{path} is stale: run python benchmarks/tables.py", file=sys.stderr)
            else:
                write_bytes(path, pages[path].encode() if path in pages else curves(pictures[path]))
    except (OSError, VcframeError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    return int(given.check and bool(stale))


def read_results(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """File name and content of every result, by name. Raises `UsageError` naming what is no result."""
    results = []
    for path in sorted(folder.glob("kodak-*.json"), key=lambda path: path.stem):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path}: not JSON ({error})") from error
        found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
        if found != (SCHEMA, SCHEMA_VERSION):
            raise UsageError(f"{path}: not a {SCHEMA} of version {SCHEMA_VERSION}; evaluate again")
        results.append((path.name, content))
    if not results:
        raise UsageError(f"no kodak-*.json in {folder}: run vcframe evaluate first")
    return results


def summary(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """One row for each result: what the encoder's choice saves, and what its settings alone do."""
    head = ["codec", "its plain files have", "low range", "quartiles", "upper range", "low range by SSIM"]
    rows = [[*head, "settings alone", "result"], ["---", "---", *["---:"] * 5, "---"]]
    for name, content in results:
        low, alone = content["summary"], content["parts"].get(NO_NETWORKS)
        rows.append(
            [
                content["codec"]["codec"],
                _options(_differences(content)) or ("the same settings" if alone is None else ""),
                f"**{percent(low['mean'])}**",
                f"{percent(low['lower_quartile'])} .. {percent(low['upper_quartile'])}",
                _next_range(content, None).partition(" (")[0],
                percent(low["ssim_mean"]),
                "" if alone is None else percent(alone["summary"]["mean"]),
                f"[{Path(name).stem}](benchmarks/results/{name})",
            ]
        )
    return markdown(rows)


def details(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A table for each result: the encoder's choice, then each part of it alone."""
    gains = [f"gain at {bpp:.2f} bpp" for bpp in GAIN_BPP]
    head = ["scale", "trained", "BD-rate mean", "median", "quartiles", "pictures", "covered"]
    head += ["next range", "by SSIM", "by MS-SSIM", *gains]
    lines = []
    for name, content in results:
        rows = [_row(content, part) for part in (None, *content["parts"])]
        lines += [f"### {_codec(content)}", ""]
        lines += [markdown([head, ["---"] * len(head), *rows]), ""]
        lines += [f"Model {content['model_id']}, [{Path(name).stem}](benchmarks/results/{name}).", ""]
    conventions = dict.fromkeys(content["convention"] for _, content in results)
    notes = [f"Convention: {convention}." for convention in conventions]
    notes.append("Covered: share of that PSNR range that both curves reach, mean over the pictures counted.")
    notes.append("Next range: mean BD-rate from where the first range ends to the rate in brackets.")
    notes.append(
        "By SSIM, by MS-SSIM: mean BD-rate of the first range with that in decibels in the place of PSNR."
    )
    notes.append("Gain: mean PSNR at equal bytes, with the number of pictures on which both are defined.")
    return "\n".join([*lines, *(f"- {note}" for note in notes)])


def run_details(run: Run) -> str:
    """A run's sentence and curves, and every system against its own plain codec and against the first one."""
    analysis = Analysis(run)
    metric, ranges = analysis.metrics[0], list(RANGES)[:2]
    head = ["codec", "method", *(f"{name}, against its plain codec" for name in ranges)]
    rows = [[*head, f"{ranges[0]}, against {analysis.anchor}"], ["---", "---", "---:", "---:", "---:"]]

    rates = {(c.system, c.anchor, name): c.rate for name in ranges for c in analysis.compared(metric, name)}

    def saved(system: System, anchor: System | None, name: str) -> str:
        if anchor is None or (rate := rates.get((system, anchor, name))) is None:
            return ""
        if rate.mean is None or rate.low is None or rate.high is None:
            return "n/a"
        counted = rate.num_images - rate.num_missing
        share = "" if not rate.num_missing else f", {counted} of {rate.num_images}"
        return f"{rate.mean:+.1f} % ({rate.low:+.1f} .. {rate.high:+.1f}{share})"

    for system in analysis.systems:
        own = [saved(system, system.plain, name) for name in ranges]
        rows.append([system.codec, system.method, *own, saved(system, analysis.anchor, ranges[0])])
    lines = [f"### {run.name}", "", headline(analysis), ""]
    lines += [f"![Mean rate-distortion curves of {run.name}]({run.name}.svg)", "", markdown(rows), ""]
    rows_file = f"benchmarks/results/runs/{run.folder.name}/rows.jsonl.gz"
    lines += [f"`{run.about['command']}`, {len(run.measured)} files, {len(run.failures)} failures, "]
    lines[-1] += f"commit {str(run.about['commit'])[:8]}: [rows]({rows_file})."
    return "\n".join(lines)


def curves(run: Run) -> bytes:
    """Mean PSNR over mean rate of every system as SVG: `vcframe` solid, the plain codecs dashed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    analysis = Analysis(run)
    metric = analysis.metrics[0]
    with mpl.rc_context({"svg.hashsalt": run.name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for codec, colour in zip(analysis.codecs, itertools.cycle(COLOURS)):
            for method, style in ((PLAIN, "--"), (CHOOSING, "-")):
                if (system := System(codec, method)) in analysis.rows:
                    points = [p for p in analysis.mean_curve(system, metric) if p.bpp <= MAX_BPP]
                    line = [p.bpp for p in points], [p.psnr_db for p in points]
                    axes.plot(*line, style, color=colour, label=str(system), linewidth=1.3)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bits per pixel, whole files")
        axes.set_ylabel("PSNR in dB" if metric == "psnr" else metric)
        axes.grid(visible=True, which="both", linewidth=0.3)
        axes.legend(fontsize=8)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Description": digest(run)})
        return out.getvalue()


def digest(run: Run) -> str:
    """Of everything that a run's curves are drawn from."""
    rows = sorted(row.to_json() for row in run.rows)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def is_of(picture: Path, run: Run) -> bool:
    """Whether a picture was drawn from this run."""
    return digest(run) in picture.read_text(encoding="utf-8")


def replace_part(page: Path, name: str, new: str, text: str | None = None) -> str:
    """The page, or `text` of it, with what stands between the markers replaced; `UsageError` without them."""
    begin, finish = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, start, rest = (page.read_text(encoding="utf-8") if text is None else text).partition(begin)
    _, end, after = rest.partition(finish)
    if not (start and end):
        raise UsageError(f"{page} needs a line {begin} and, below it, a line {finish}")
    return f"{before}{begin}\n\n{new}\n\n{finish}{after}"


def _row(content: dict[str, Any], part: str | None) -> list[str]:
    """A result: the whole of it, or one part of the choice."""
    view = content if part is None else content["parts"][part]
    summary, card = view["summary"], content["card"]
    measured = summary["num_images"] - summary["num_missing"]
    rates = {rate["bpp"]: rate for rate in view["fixed_rates"]}
    scales = [scale_name(scale) for scale in view["scales"]]
    chosen = "chosen: " + ", ".join([*(scale.removeprefix("scale ") for scale in scales), "plain"])
    return [
        part or (chosen if content["chooses"] else scales[0]),
        _trained([card["training"][str(scale)] for scale in view["scales"]]),
        percent(summary["mean"]),
        percent(summary["median"]),
        f"{percent(summary['lower_quartile'])} .. {percent(summary['upper_quartile'])}",
        f"{measured} of {summary['num_images']}",
        "n/a" if summary["covered"] is None else f"{summary['covered']:.0%}",
        _next_range(content, part),
        percent(summary["ssim_mean"]),
        percent(summary["ms_ssim_mean"]),
        *(gain(rates[bpp]) for bpp in GAIN_BPP),
    ]


def _codec(content: dict[str, Any]) -> str:
    """The codec with its options, and those of the plain codec where they differ."""
    ours, other = content["codec"]["options"], _differences(content)
    name = str(content["codec"]["codec"])
    text = f"{name} ({_options(ours)})" if ours else name
    return f"{text} against {_options(other)}" if other else text


def _differences(content: dict[str, Any]) -> dict[str, Any]:
    """Options of the plain codec that are not those of the codec with networks."""
    ours = content["codec"]["options"]
    return {key: value for key, value in content["plain"]["options"].items() if ours[key] != value}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _trained(runs: Sequence[dict[str, Any]]) -> str:
    if not runs or any("minutes" not in run for run in runs):
        return "n/a"
    minutes = sum(run["minutes"] for run in runs)
    starts = dict.fromkeys(run["start"] for run in runs if "start" in run)
    names = dict.fromkeys(run.get("schedule", "") for run in runs)
    after = f" after {', '.join(starts)}" if starts else ""
    return f"{', '.join(names)}, {minutes:.0f} min{after}".lstrip(", ")


def _next_range(content: dict[str, Any], part: str | None) -> str:
    if not content["later_ranges"]:
        return "n/a"
    view = content["later_ranges"][0]
    summary = view["summary"] if part is None else view["parts"][part]["summary"]
    return f"{percent(summary['mean'])} ({view['span'][1]:g} bpp)"


def percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1f} %"


def gain(rate: dict[str, Any]) -> str:
    if not rate["num_images"]:
        return "n/a"
    return f"{rate['vcframe_psnr_db'] - rate['plain_psnr_db']:+.2f} dB ({rate['num_images']})"


if __name__ == "__main__":
    sys.exit(main())

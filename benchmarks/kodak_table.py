"""Write the README's results table out of benchmarks/results/kodak-*.json.

python benchmarks/kodak_table.py            # rewrite the table in README.md
python benchmarks/kodak_table.py --check    # exit 1 if README.md does not hold this table
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcframe.bench.evaluation import SCHEMA, SCHEMA_VERSION, scale_name
from vcframe.codec import UsageError, VcframeError
from vcframe.images import write_bytes

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- results -->", "<!-- /results -->"
GAIN_BPP = (0.10, 0.15, 0.20, 0.30)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the README's results table.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if README.md is stale")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", metavar="DIR")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        old = given.readme.read_text(encoding="utf-8")
        new = replace_table(old, table(read_results(given.results)))
    except (OSError, VcframeError) as error:
        print(f"kodak_table: {error}", file=sys.stderr)
        return 2
    if given.check:
        if old != new:
            print(f"{given.readme} is stale: run python benchmarks/kodak_table.py", file=sys.stderr)
        return int(old != new)
    if old != new:
        write_bytes(given.readme, new.encode())
    return 0


def read_results(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """File name and content of every result, by name. Raises `UsageError` naming what is no result."""
    results = []
    for path in sorted(folder.glob("kodak-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path}: not JSON ({error})") from error
        found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
        # Version 3 lacks MS-SSIM and nothing else.
        if found not in ((SCHEMA, 3), (SCHEMA, SCHEMA_VERSION)):
            raise UsageError(f"{path}: not a {SCHEMA} of version {SCHEMA_VERSION}; evaluate again")
        results.append((path.name, content))
    if not results:
        raise UsageError(f"no kodak-*.json in {folder}: run vcframe evaluate first")
    return results


def table(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The table in Markdown, with the convention and where each row comes from.

    A result of an encoder that chooses has a row for that, and one for each part of the choice alone.
    """
    gains = [f"gain at {bpp:.2f} bpp" for bpp in GAIN_BPP]
    head = ["codec", "scale", "trained", "BD-rate mean", "median", "quartiles", "pictures", "covered"]
    head += ["next range", "by SSIM", "by MS-SSIM", *gains, "result"]
    rows = [head, ["---"] * len(head)]
    for name, content in results:
        rows.append(_row(name, content, None))
        rows += [_row(name, content, part) for part in content["parts"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    conventions = dict.fromkeys(content["convention"] for _, content in results)
    notes = [f"Convention: {convention}." for convention in conventions]
    notes.append("Covered: share of that PSNR range that both curves reach, mean over the pictures counted.")
    notes.append("Next range: mean BD-rate from where the first range ends to the rate in brackets.")
    notes.append(
        "By SSIM, by MS-SSIM: mean BD-rate of the first range with that in decibels in the place of PSNR."
    )
    notes.append("Gain: mean PSNR at equal bytes, with the number of pictures on which both are defined.")
    return "\n".join([*lines, "", *notes])


def replace_table(readme: str, new_table: str) -> str:
    """`readme` with what stands between the markers replaced. Raises `UsageError` without the markers."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise UsageError(f"the README needs a line {START} and, below it, a line {END}")
    return f"{before}{START}\n\n{new_table}\n\n{END}{after}"


def _row(name: str, content: dict[str, Any], part: str | None) -> list[str]:
    """A result: the whole of it, or one part of the choice."""
    view = content if part is None else content["parts"][part]
    summary, card = view["summary"], content["card"]
    measured = summary["num_images"] - summary["num_missing"]
    rates = {rate["bpp"]: rate for rate in view["fixed_rates"]}
    scales = [scale_name(scale) for scale in view["scales"]]
    chosen = "chosen: " + ", ".join([*(scale.removeprefix("scale ") for scale in scales), "plain"])
    return [
        _codec(content["codec"], content["plain"]),
        part or (chosen if content["chooses"] else scales[0]),
        _trained([card["training"][str(scale)] for scale in view["scales"]]),
        _percent(summary["mean"]),
        _percent(summary["median"]),
        f"{_percent(summary['lower_quartile'])} .. {_percent(summary['upper_quartile'])}",
        f"{measured} of {summary['num_images']}",
        "n/a" if summary["covered"] is None else f"{summary['covered']:.0%}",
        _next_range(content, part),
        _percent(summary["ssim_mean"]),
        _percent(summary.get("ms_ssim_mean")),
        *(_gain(rates[bpp]) for bpp in GAIN_BPP),
        f"[{content['model_id']}](benchmarks/results/{name})",
    ]


def _codec(config: dict[str, Any], plain: dict[str, Any]) -> str:
    """The codec with its options, and those of the plain codec where they differ."""
    ours, theirs = config["options"], plain["options"]
    other = {key: value for key, value in theirs.items() if ours[key] != value}
    text = f"{config['codec']} ({_options(ours)})" if ours else str(config["codec"])
    return f"{text} against {_options(other)}" if other else text


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
    return f"{_percent(summary['mean'])} ({view['span'][1]:g} bpp)"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1f} %"


def _gain(rate: dict[str, Any]) -> str:
    if not rate["num_images"]:
        return "n/a"
    return f"{rate['vcframe_psnr_db'] - rate['plain_psnr_db']:+.2f} dB ({rate['num_images']})"


if __name__ == "__main__":
    sys.exit(main())

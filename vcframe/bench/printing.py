"""An evaluation as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcframe.bench.evaluation import BdSummary, Evaluation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the mean PSNR (at fixed rates, or at the qualities asked for) and the BD-rate of each picture."""
    from rich.markup import escape

    options = ", ".join(f"{k}={v}" for k, v in evaluation.codec["options"].items())
    console.print(
        escape(
            f"{evaluation.codec['codec']} ({options or 'no options'}; {evaluation.codec_version}), "
            f"model {evaluation.model_id}"
        )
    )
    console.print(_means_table(evaluation) if evaluation.qualities else _rates_table(evaluation))
    console.print(_pictures_table(evaluation))
    for view in (evaluation, *evaluation.later_ranges):
        low, high = view.span
        name = f"{low:g} to {high:g} bpp" if low else f"up to {high:g} bpp"
        console.print(f"{name}: {_summary_line(view.summary)}")
        for part_name, part in view.parts.items():
            console.print(f"{name}, {part_name} alone: {_summary_line(part.summary)}")
    console.print(escape(evaluation.convention), style="dim")


def _rates_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    table = Table("bpp", "plain dB", "vcframe dB", "gain dB", "pictures", title="Mean PSNR at equal bytes")
    for rate in evaluation.fixed_rates:
        gain = _difference(rate.vcframe_psnr_db, rate.plain_psnr_db)
        cells = _number(rate.plain_psnr_db), _number(rate.vcframe_psnr_db), _number(gain, "+.2f")
        table.add_row(f"{rate.bpp:.2f}", *cells, str(rate.num_images))
    return table


def _means_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    title = "Means of vcframe, and its gain over plain at equal bytes"
    table = Table("quality", "bpp", "dB", "SSIM", "pictures", "gain dB", "of", title=title)
    for mean in evaluation.quality_means:
        cells = f"{mean.bpp:.4f}", f"{mean.psnr_db:.2f}", _number(mean.ssim, ".4f"), str(mean.num_images)
        table.add_row(f"{mean.quality:g}", *cells, _number(mean.gain_db, "+.2f"), str(mean.num_matched))
    return table


def _pictures_table(evaluation: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    headings = "picture", "size", "BD-rate", "over dB", "covered"
    table = Table(*headings, title="BD-rate of vcframe against plain")
    for row in evaluation.images:
        span = f"{_number(row.bd.psnr_low)}..{_number(row.bd.psnr_high)}"
        rate = f"n/a ({row.bd.reason})" if row.bd.percent is None else f"{row.bd.percent:+.2f} %"
        covered = _number(row.covered, ".0%")
        table.add_row(escape(row.name), f"{row.width}x{row.height}", escape(rate), span, covered)
    return table


def _summary_line(summary: BdSummary) -> str:
    counts = f"{summary.num_images - summary.num_missing} of {summary.num_images} pictures"
    if summary.mean is None:
        return f"BD-rate: n/a on all {summary.num_images} pictures"
    return (
        f"BD-rate: mean {summary.mean:+.2f} %, median {_number(summary.median, '+.2f')} %, quartiles "
        f"{_number(summary.lower_quartile, '+.2f')} .. {_number(summary.upper_quartile, '+.2f')} %, {counts}"
        f", {_number(summary.covered, '.0%')} of the range covered"
        f"; by SSIM {_percent(summary.ssim_mean)}, by MS-SSIM {_percent(summary.ms_ssim_mean)}"
    )


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.2f} %"


def _number(value: float | None, spec: str = ".2f") -> str:
    return "n/a" if value is None else format(value, spec)

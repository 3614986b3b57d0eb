"""The analysis of runs whose deltas are closed forms, and of curves that others have published."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from benchmark_runs import QUALITIES, SLOPE, curve, failure, row, write_run

from vcframe.bench.analysis import Analysis, System
from vcframe.bench.deltas import Delta, distribution, psnr_delta, rate_delta
from vcframe.bench.runs import read_run
from vcframe.codec import UsageError
from vcframe.metrics import RatePoint, bd_rate

PLAIN, NETWORKS = System("jpeg", "plain"), System("jpeg", "vcframe")

# The example of github.com/Anserw/Bjontegaard_metric, which other implementations repeat: kbit/s and dB.
PUBLISHED_ANCHOR = (686.76, 309.58, 157.11, 85.95), (40.28, 37.18, 34.24, 31.42)
PUBLISHED_TEST = (893.34, 407.8, 204.93, 112.75), (40.39, 37.21, 34.17, 31.24)


def points(rates: tuple[float, ...], decibels: tuple[float, ...]) -> list[RatePoint]:
    return [RatePoint(i, round(r), r, d, 0.5) for i, (r, d) in enumerate(zip(rates, decibels, strict=True))]


def analysed(folder: Path, rows: list, **about: object) -> Analysis:  # type: ignore[type-arg]
    return Analysis(read_run(write_run(folder, rows, **about)))  # type: ignore[arg-type]


# Deltas


def test_the_deltas_of_the_published_example() -> None:
    anchor, test = points(*PUBLISHED_ANCHOR), points(*PUBLISHED_TEST)
    settings = {"method": "pchip", "require_matching_points": True, "min_overlap": 0}
    rate, gain = rate_delta(anchor, test, None).value, psnr_delta(anchor, test, None).value
    assert rate == pytest.approx(
        bjontegaard.bd_rate(*PUBLISHED_ANCHOR, *PUBLISHED_TEST, **settings), abs=1e-9
    )
    assert gain == pytest.approx(
        bjontegaard.bd_psnr(*PUBLISHED_ANCHOR, *PUBLISHED_TEST, **settings), abs=1e-9
    )
    # Two others: that of `vcframe.metrics` over scipy, and a cubic fit as Bjontegaard proposed it.
    assert rate == pytest.approx(bd_rate(anchor, test).percent, abs=1e-6)
    cubic = {**settings, "method": "cubic"}
    assert rate == pytest.approx(bjontegaard.bd_rate(*PUBLISHED_ANCHOR, *PUBLISHED_TEST, **cubic), abs=0.5)
    assert gain == pytest.approx(bjontegaard.bd_psnr(*PUBLISHED_ANCHOR, *PUBLISHED_TEST, **cubic), abs=0.05)


def test_without_a_number_there_is_the_reason() -> None:
    anchor = points((0.1, 0.2, 0.4), (25.0, 28.0, 31.0))
    short, far = points((0.1, 0.2), (25.0, 28.0)), points((0.5, 0.9, 1.7), (32.0, 35.0, 38.0))
    assert rate_delta(anchor, short, None) == Delta(None, "test curve has 2 points, needs 3")
    assert psnr_delta(anchor, short, None).reason == "test curve has 2 points, needs 3"
    assert rate_delta(anchor, far, None).reason == "curves share 0.00 dB, needs 0.5"
    assert str(psnr_delta(anchor, far, None).reason).startswith("curves share 0.500 to 0.500 bpp")
    assert "not 0.5 to 0.8" in str(rate_delta(anchor, anchor, (0.5, 0.8)).reason)


def test_a_curve_that_turns_back_is_judged_by_its_front() -> None:
    anchor, test = points(*PUBLISHED_ANCHOR), points(*PUBLISHED_TEST)
    dominated = [*test, RatePoint(9, 500, 500.0, 33.0, 0.5)]
    assert rate_delta(anchor, dominated, None) == rate_delta(anchor, test, None)


def test_the_distribution_over_pictures() -> None:
    values = [-30.0, -20.0, -10.0, 4.0]
    found = distribution([*map(Delta, values), Delta(None, "why")])
    assert (found.num_images, found.num_missing, found.num_negative, found.num_positive) == (5, 1, 3, 1)
    assert found.mean == -14
    assert (found.lower_quartile, found.median, found.upper_quartile) == (-22.5, -15, -6.5)
    # The normal interval is another estimate of the same: 14 +- 1.96 * 12.57 / sqrt(4).
    half = 1.96 * np.std(values) / 2
    assert found.low == pytest.approx(-14 - half, abs=2)
    assert found.high == pytest.approx(-14 + half, abs=2)
    assert distribution([Delta(-5.0)]).low is None
    assert distribution([Delta(None, "why")]).mean is None


# Runs


def test_bytes_and_decibels_of_a_run_are_the_closed_forms(tmp_path: Path) -> None:
    rows = []
    for image, factor in (("made/a.png", 0.7), ("made/b.png", 0.8), ("made/c.png", 0.9)):
        rows += curve(image, "jpeg", "plain") + curve(image, "jpeg", "vcframe", factor, scale=2)
        rows += curve(image, "webp", "plain", 0.75)
    analysis = analysed(tmp_path, rows)
    found = {(c.system, c.metric, c.range): c for c in analysis.comparisons}
    networks = found[NETWORKS, "psnr", "all rates"]
    assert networks.rate.mean == pytest.approx(-20, abs=1e-2)
    assert networks.rates["made/a.png"].value == pytest.approx(-30, abs=1e-2)
    assert networks.gains["made/a.png"].value == pytest.approx(-math.log(0.7) / SLOPE, abs=1e-3)
    # SSIM in decibels is half of the PSNR here, so it says the same of the bytes.
    by_ssim = found[NETWORKS, "ssim", "all rates"]
    assert by_ssim.rate.mean == pytest.approx(-20, abs=1e-2)
    assert by_ssim.gains["made/a.png"].value == pytest.approx(-math.log(0.7) / SLOPE / 2, abs=1e-3)
    webp = found[System("webp", "plain"), "psnr", "up to 0.3 bpp"]
    assert (webp.anchor, webp.rate.num_negative) == (PLAIN, 3)
    assert webp.rate.mean == pytest.approx(-25, abs=1e-2)


def test_a_metric_where_lower_is_better_is_turned(tmp_path: Path) -> None:
    rows = curve("made/a.png", "jpeg", "plain") + curve("made/a.png", "jpeg", "vcframe", 0.7, scale=2)
    rows = [replace(r, metrics={"mine": 100 - r.metrics["psnr"]}) for r in rows]
    found = {(c.system, c.range): c for c in analysed(tmp_path, rows, lower_is_better=["mine"]).comparisons}
    assert found[NETWORKS, "all rates"].rate.mean == pytest.approx(-30, abs=1e-2)
    as_it_is = {(c.system, c.range): c for c in analysed(tmp_path, rows).comparisons}
    assert as_it_is[NETWORKS, "all rates"].rate.mean != pytest.approx(-30, abs=1)


def test_vcframe_has_every_scale_and_the_codec_s_own_file(tmp_path: Path) -> None:
    good, bad = QUALITIES[:3], QUALITIES[3:]
    rows = curve("made/a.png", "jpeg", "plain")
    rows += [row("made/a.png", "jpeg", "vcframe", q, factor=0.7, scale=2) for q in good]
    rows += [row("made/a.png", "jpeg", "vcframe", q, factor=1.3, scale=2) for q in bad]
    rows += [row("made/a.png", "jpeg", "vcframe", q, factor=1.4, scale=1) for q in QUALITIES]
    rows += [row("made/a.png", "jpeg", "post", q, factor=1.3, scale=2) for q in QUALITIES]
    curves = analysed(tmp_path, rows).curves("psnr")
    assert [p.scale for p in curves[NETWORKS]["made/a.png"]] == [2, 2, 2, None, None, None]
    assert {p.scale for p in curves[System("jpeg", "post")]["made/a.png"]} == {2}


def test_matched_pairs_are_real_files(tmp_path: Path) -> None:
    rows = curve("made/a.png", "jpeg", "plain") + curve("made/a.png", "jpeg", "vcframe", 0.8, scale=2)
    pairs = analysed(tmp_path, rows).matched_pairs(NETWORKS, "psnr")
    assert [pair.anchor.quality for pair in pairs] == [pair.test.quality for pair in pairs] == list(QUALITIES)
    assert [pair.percent for pair in pairs] == pytest.approx([-20] * 6, abs=1e-2)


def test_means_are_of_qualities_that_every_picture_has(tmp_path: Path) -> None:
    rows = curve("made/a.png", "jpeg", "plain") + curve("made/b.png", "jpeg", "plain", 3.0)[:-1]
    means = analysed(tmp_path, rows).mean_curve(PLAIN, "psnr")
    assert [point.quality for point in means] == list(QUALITIES[:-1])
    assert means[0].bpp == pytest.approx(0.05 * (1 + 3) / 2, rel=1e-3)
    assert means[0].psnr_db == 26


def test_repeats_count_once_by_their_median(tmp_path: Path) -> None:
    times = (2.4, 4.8, 48.0)
    rows = [
        row("made/a.png", "jpeg", "plain", q, repeat=i, encode_s=t)
        for q in QUALITIES
        for i, t in enumerate(times)
    ]
    analysis = analysed(tmp_path, rows)
    (speed,) = analysis.speeds
    assert (speed.num_files, speed.encode_s, speed.peak_bytes) == (6, pytest.approx(4.8 / 24), 300 << 20)
    assert speed.restore_s is None
    assert len(analysis.curves("psnr")[PLAIN]["made/a.png"]) == 6


def test_a_picture_that_a_system_lacks_is_counted(tmp_path: Path) -> None:
    rows = curve("made/a.png", "jpeg", "plain") + curve("made/b.png", "jpeg", "plain")
    rows += curve("made/a.png", "jpeg", "vcframe", 0.8, scale=2)
    rows.append(failure("made/b.png", "jpeg", "vcframe", 10, "too large"))
    analysis = analysed(tmp_path, rows)
    (comparison, *_) = analysis.comparisons
    assert comparison.rates["made/b.png"] == Delta(None, "not measured")
    assert (comparison.rate.num_images, comparison.rate.num_missing) == (2, 1)
    assert len(analysis.run.failures) == 1


def test_reading_drops_a_half_line_and_takes_what_succeeded_last(tmp_path: Path) -> None:
    rows = curve("made/a.png", "jpeg", "plain")
    failed = failure("made/a.png", "jpeg", "plain", 10, "killed")
    folder = write_run(tmp_path / "run", [failed, *rows])
    with (folder / "rows.jsonl").open("a") as file:
        file.write(rows[0].to_json()[:40])
    run = read_run(folder)
    assert (len(run.measured), run.failures) == (6, ())


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder of a run"):
        read_run(tmp_path)
    folder = write_run(tmp_path / "run", curve("made/a.png", "jpeg", "plain"))
    (folder / "rows.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"rows\.jsonl line 1: not a row"):
        read_run(folder)
    (folder / "rows.jsonl").write_text("")
    with pytest.raises(UsageError, match="no finished task"):
        read_run(folder)


def test_an_anchor_that_the_run_lacks_is_refused(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, curve("made/a.png", "webp", "plain")))
    assert Analysis(run, "webp").anchor == System("webp", "plain")
    with pytest.raises(UsageError, match="no plain codec 'jpeg' in this run; it has webp"):
        Analysis(run, "jpeg")

"""The evaluation, recomputed from outside: Pillow's own JPEG files, scikit-image's PSNR, `bjontegaard`."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import PIL.Image
import pytest
import scipy.interpolate
import skimage.metrics
from conftest import ToyCodec
from rich.console import Console
from vcframe_plugins.jpeg import JpegCodec

from vcframe import Codec, Image, ImageError, UsageError
from vcframe.bench.evaluate import evaluate
from vcframe.bench.evaluation import FIXED_BPP, Evaluation, covered_share
from vcframe.bench.printing import print_evaluation
from vcframe.images import luma, write_image
from vcframe.metrics import BdResult, RatePoint
from vcframe.model import Card, Model

MAX_BPP = 0.6


class FakeModel(Model):
    """Passes pictures through, or restores them in coarse steps; everything else about it is real."""

    def __init__(self, codec: Codec, channels: int = 3, step: int = 1) -> None:
        self.step = step
        self.card = Card(
            codec=codec.config(),
            codec_version=codec.version(),
            preset="small",
            block=8,
            channels=channels,  # type: ignore[arg-type]
            training={1: {"schedule": "none"}},
            vcframe_version="any",
        )

    @property
    def id(self) -> str:
        return "0badcafe"

    def describe(self, image: Image, unit: float, scale: int) -> Image:
        return image

    def num_directions(self, scale: int) -> int:
        return 0

    def restore(self, decoded: Image, unit: float, scale: int, size: tuple[int, int]) -> Image:  # type: ignore[override]
        assert decoded.shape[:2] == size
        return decoded // self.step * self.step + self.step // 2


@pytest.fixture(scope="module")
def pictures(photo: Image, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "left.png", folder / "right [x].png"]
    write_image(paths[0], photo[:, :160])
    write_image(paths[1], photo[:, 160:])
    return paths


@pytest.fixture(scope="module")
def identity(pictures: list[Path]) -> Evaluation:
    codec = JpegCodec()
    return evaluate(codec, FakeModel(codec), pictures, ends_bpp=[MAX_BPP], scale=1)


def printed(evaluation: Evaluation) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_evaluation(evaluation, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def pillow_curve(image: Image, qualities: list[float]) -> tuple[list[int], list[float]]:
    """Sizes and PSNR of Pillow's JPEG files, the smaller of baseline and progressive."""
    sizes, decibels = [], []
    for quality in qualities:
        files = []
        for progressive in (False, True):
            out = io.BytesIO()
            options = {"quality": int(quality), "optimize": True, "subsampling": 2}
            PIL.Image.fromarray(image).save(out, "JPEG", progressive=progressive, **options)
            files.append(out.getvalue())
        data = min(files, key=len)
        decoded = np.asarray(PIL.Image.open(io.BytesIO(data)))
        sizes.append(len(data))
        decibels.append(skimage.metrics.peak_signal_noise_ratio(image, decoded, data_range=255))
    return sizes, decibels


def test_plain_points_are_those_of_pillows_own_files(identity: Evaluation, photo: Image) -> None:
    left = identity.images[0]
    assert (left.name, left.height, left.width) == ("left.png", 200, 160)
    sizes, decibels = pillow_curve(photo[:, :160], [point.quality for point in left.plain])
    assert [point.num_bytes for point in left.plain] == sizes
    assert [point.psnr_db for point in left.plain] == pytest.approx(decibels, abs=1e-9)
    assert [point.bpp for point in left.plain] == [8 * size / (200 * 160) for size in sizes]


def test_the_payload_is_counted_and_nothing_else_differs(identity: Evaluation) -> None:
    file = JpegCodec().encode(np.zeros((8, 8), np.uint8), 50)
    carrier_bytes = len(JpegCodec().embed(file, bytes(11))) - len(file)
    assert carrier_bytes == 2 + 2 + 2 + 11, "COM marker, length, mark, payload"
    for row in identity.images:
        for plain, vcframe in zip(row.plain, row.vcframe, strict=False):
            assert vcframe.quality == plain.quality
            assert (vcframe.psnr_db, vcframe.ssim) == (plain.psnr_db, plain.ssim)
            assert vcframe.num_bytes == plain.num_bytes + carrier_bytes


def test_bd_rate_recomputed_by_numeric_integration(identity: Evaluation, photo: Image) -> None:
    row = identity.images[0]
    sizes, decibels = pillow_curve(photo[:, :160], [point.quality for point in row.plain])
    assert np.all(np.diff(sizes) > 0), "the recomputation takes the curves as they are"
    assert np.all(np.diff(decibels) > 0), "the recomputation takes the curves as they are"
    payload_bytes = row.vcframe[0].num_bytes - sizes[0]
    plain, vcframe = (8 * (np.array(sizes) + extra) / (200 * 160) for extra in (0, payload_bytes))
    _, anchor, test = bjontegaard.bd_rate(
        plain, decibels, vcframe, decibels, method="pchip", interpolators=True, min_overlap=0
    )
    # The top of the range is where the interpolated plain PSNR meets the largest rate.
    high = float(scipy.interpolate.pchip_interpolate(np.log(plain), decibels, np.log(MAX_BPP)))
    levels = np.linspace(decibels[0], high, 20001)
    mean = np.trapezoid(np.asarray(test(levels)) - np.asarray(anchor(levels)), levels) / np.ptp(levels)
    assert row.bd.percent == pytest.approx(100 * (10**mean - 1), abs=1e-4)
    assert row.bd.percent is not None
    assert 0.1 < row.bd.percent < 5
    assert (row.bd.psnr_low, row.bd.psnr_high) == pytest.approx((decibels[0], high), abs=1e-9)


def test_a_curve_ends_at_the_first_point_well_past_the_largest_rate(identity: Evaluation) -> None:
    for row in identity.images:
        for points in (row.plain, row.vcframe):
            assert len(points) >= 6
            assert points[0].quality == 1
            assert points[-1].bpp > 1.15 * MAX_BPP
            assert all(point.bpp <= 1.15 * MAX_BPP for point in points[:-1])


def test_a_curve_that_passes_the_largest_rate_at_once_still_has_four_points(pictures: list[Path]) -> None:
    codec = JpegCodec()
    row = evaluate(codec, FakeModel(codec), pictures[:1], ends_bpp=[0.19]).images[0]
    assert row.plain[0].bpp < 0.19
    assert row.plain[2].bpp > 1.15 * 0.19
    assert len(row.plain) == 4
    assert len(row.vcframe) >= 4


def test_the_grid_holds_every_sweep_entry(pictures: list[Path]) -> None:
    codec = JpegCodec()
    result = evaluate(codec, FakeModel(codec), pictures[:1], ends_bpp=[50])
    qualities = [point.quality for point in result.images[0].plain]
    assert set(codec.quality_scale.sweep) <= set(qualities)
    assert qualities == sorted(set(qualities))
    assert 20 <= len(qualities) <= 30


def test_a_worse_system_is_measured_on_until_the_range_is_covered(pictures: list[Path]) -> None:
    codec = JpegCodec()
    coarse, hopeless = (
        evaluate(codec, FakeModel(codec, step=step), pictures[:1], ends_bpp=[0.5], scale=1).images[0]
        for step in (24, 128)
    )
    assert coarse.bd.percent is not None
    assert coarse.bd.psnr_high is not None
    assert coarse.bd.percent > 5
    assert coarse.vcframe[-2].psnr_db < coarse.bd.psnr_high <= coarse.vcframe[-1].psnr_db
    assert coarse.vcframe[-2].bpp > 1.15 * 0.5
    assert hopeless.vcframe[-2].bpp <= 2 * 0.5 < hopeless.vcframe[-1].bpp


def test_an_encoder_that_may_choose_is_never_worse_than_the_plain_codec(pictures: list[Path]) -> None:
    codec = JpegCodec()
    row = evaluate(codec, FakeModel(codec, step=128), pictures[:1], ends_bpp=[0.5]).images[0]
    assert {point.scale for point in row.vcframe} == {None, 1}
    assert [point for point in row.vcframe if point.scale is None] == list(row.plain)
    assert row.bd.percent == pytest.approx(0, abs=1e-9)
    spoiled = evaluate(codec, FakeModel(codec, step=24), pictures[:1], ends_bpp=[0.5])
    alone = evaluate(codec, FakeModel(codec, step=24), pictures[:1], ends_bpp=[0.5], scale=1)
    assert spoiled.alone(1).images == alone.images
    (view,) = spoiled.to_json()["parts"].values()
    assert view["summary"] == alone.to_json()["summary"]
    assert view["summary"]["mean"] > 5
    assert f"up to 0.5 bpp, scale 1 alone: BD-rate: mean {view['summary']['mean']:+.2f} %" in printed(spoiled)
    text = evaluate(codec, FakeModel(codec), pictures[:1], ends_bpp=[0.5], scale=1).convention
    assert text.startswith("vcframe at scale 1; ")


def test_a_grey_model_is_measured_on_luma(pictures: list[Path], photo: Image) -> None:
    codec = JpegCodec()
    result = evaluate(codec, FakeModel(codec, channels=1), pictures[:1], ends_bpp=[MAX_BPP])
    point = result.images[0].plain[5]
    out = io.BytesIO()
    grey = PIL.Image.fromarray(photo[:, :160]).convert("L")
    grey.save(out, "JPEG", quality=int(point.quality), optimize=True)
    decoded = np.asarray(PIL.Image.open(io.BytesIO(out.getvalue())))
    reference = skimage.metrics.peak_signal_noise_ratio(np.asarray(grey), decoded, data_range=255)
    assert point.psnr_db == pytest.approx(reference, abs=1e-9)
    assert result.images[0].vcframe[5].psnr_db == point.psnr_db
    assert "luma PSNR (full-range BT.601)" in result.convention


def test_a_grey_picture_and_a_codec_without_grey(tmp_path: Path, photo: Image) -> None:
    from vcframe_plugins.webp import WebpCodec

    write_image(tmp_path / "grey.png", luma(photo))
    codec = WebpCodec()
    row = evaluate(codec, FakeModel(codec), [tmp_path / "grey.png"], ends_bpp=[0.5]).images[0]
    for plain, vcframe in zip(row.plain, row.vcframe, strict=False):
        assert vcframe.psnr_db == plain.psnr_db > 20


def test_a_codec_of_no_plugin_goes_through_the_container(pictures: list[Path], toy: ToyCodec) -> None:
    row = evaluate(toy, FakeModel(toy), pictures[:1]).images[0]
    assert row.plain[0].quality == 1
    extra_bytes = {v.num_bytes - p.num_bytes for p, v in zip(row.plain, row.vcframe, strict=False)}
    assert extra_bytes == {4 + 1 + len("toy") + 11}, "magic, length of the name, name, payload"


def test_the_plain_codec_may_have_another_setting(pictures: list[Path]) -> None:
    codec, best = JpegCodec(progressive="never"), JpegCodec(progressive="auto", subsampling="4:4:4")
    result = evaluate(codec, FakeModel(codec), pictures[:1], plain=best, ends_bpp=[MAX_BPP])
    row = result.images[0]
    assert result.plain["options"]["subsampling"] == "4:4:4"
    assert result.codec["options"]["subsampling"] == "4:2:0"
    assert row.plain[6].psnr_db != row.vcframe[6].psnr_db
    image = np.asarray(PIL.Image.open(pictures[0]))
    assert row.plain[6].num_bytes == len(best.encode(image, row.plain[6].quality))


def test_asked_qualities_are_measured_and_matched_at_equal_bytes(pictures: list[Path]) -> None:
    codec = JpegCodec()
    result = evaluate(codec, FakeModel(codec), pictures, qualities=[40, 13, 40])
    assert result.qualities == (13, 40)
    for row in result.images:
        assert [point.quality for point in row.vcframe] == [13, 40]
        assert row.plain[-1].quality == 95
        assert row.bd.reason == "test curve has 2 points, needs 3"
    low, high = result.quality_means
    assert (low.quality, high.quality, low.num_images, low.num_matched) == (13, 40, 2, 2)
    assert low.psnr_db == pytest.approx(np.mean([row.vcframe[0].psnr_db for row in result.images]))
    # Carrier and payload for nothing: a little below the plain curve.
    assert low.gain_db is not None
    assert -0.3 < low.gain_db < 0
    text = printed(result)
    assert "gain over plain at equal bytes" in text
    assert "BD-rate: n/a on all 2 pictures" in text


def test_what_cannot_be_measured_is_a_row_with_its_reason(
    tmp_path: Path, pictures: list[Path], toy: ToyCodec
) -> None:
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:200])
    write_image(tmp_path / "long.png", np.zeros((2, 5000, 3), np.uint8))
    paths = [tmp_path / "broken.png", tmp_path / "long.png", pictures[0]]
    result = evaluate(toy, FakeModel(toy), paths, ends_bpp=[6])
    broken, long, good = result.images
    assert "cannot be read" in str(broken.bd.reason)
    assert broken.sha256 is None
    assert "sides must be 1..4096 pixels" in str(long.bd.reason)
    assert long.plain == long.vcframe == ()
    assert good.bd.percent is not None
    assert (result.summary.num_images, result.summary.num_missing) == (3, 2)
    assert result.summary.mean == good.bd.percent
    assert "1 of 3 pictures" in printed(result)


def test_if_nothing_could_be_measured_it_is_an_error(tmp_path: Path, toy: ToyCodec) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"none of 2 pictures could be measured; a\.png: .*a\.png"):
        evaluate(toy, FakeModel(toy), paths)


def test_the_share_of_the_range_that_both_curves_reach(identity: Evaluation) -> None:
    def curve(*pairs: tuple[float, float]) -> list[RatePoint]:
        return [RatePoint(i, 1, bpp, psnr_db, 0.5) for i, (bpp, psnr_db) in enumerate(pairs)]

    plain = curve((0.1, 20), (0.2, 24), (0.3, 30), (0.4, 33))
    # The range is 20..30 dB.
    assert covered_share(plain, curve((0.1, 22), (0.2, 27)), (0, 0.3)) == pytest.approx(0.5)
    assert covered_share(plain, curve((0.1, 18), (0.5, 40)), (0, 0.3)) == 1
    assert covered_share(plain, curve((0.1, 31), (0.5, 40)), (0, 0.3)) == 0
    assert covered_share(plain, curve((0.1, 25), (0.5, 40)), (0, 0.1)) is None
    assert covered_share([], [], (0, 0.3)) is None
    assert [row.covered for row in identity.images] == [1, 1]
    assert identity.summary.covered == 1
    rows = tuple(replace(row, covered=share) for row, share in zip(identity.images, (0.5, 1), strict=True))
    text = printed(replace(identity, images=rows))
    assert "75% of the range covered" in text
    assert "50%" in text


def test_the_codec_without_networks_is_a_part_where_it_is_not_the_plain_one(pictures: list[Path]) -> None:
    codec = JpegCodec(flat=0.75, dead_zone=0.7)
    model = FakeModel(codec, step=24)
    result = evaluate(codec, model, pictures[:1], plain=JpegCodec(), ends_bpp=[MAX_BPP])
    assert list(result.parts) == ["scale 1", "no networks"]
    row = result.parts["no networks"].images[0]
    assert [point.num_bytes for point in row.vcframe[:3]] == [
        len(codec.encode(np.asarray(PIL.Image.open(pictures[0])), point.quality)) for point in row.vcframe[:3]
    ]
    assert row.bd.percent is not None
    assert row.bd.percent < -10
    assert f"no networks alone: BD-rate: mean {row.bd.percent:+.2f} %" in printed(result)
    assert list(evaluate(codec, model, pictures[:1], ends_bpp=[MAX_BPP]).parts) == ["scale 1"]


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_bd_rate_by_structural_similarity_recomputed(photo: Image, tmp_path: Path, name: str) -> None:
    codec, path = JpegCodec(), tmp_path / "large enough for five scales.png"
    write_image(path, photo[:192, :240])
    row = evaluate(codec, FakeModel(codec, step=16), [path], ends_bpp=[MAX_BPP], scale=1).images[0]
    logs: list[list[float]] = [[], []]
    decibels: list[list[float]] = [[], []]
    for i, points in enumerate((row.plain, row.vcframe)):
        assert all(a.bpp < b.bpp for a, b in itertools.pairwise(points)), "taken as they are"
        for point in points:
            value = -10 * math.log10(1 - getattr(point, name))
            if not decibels[i] or value > max(decibels[i]):  # the upper envelope
                logs[i].append(math.log(point.bpp))
                decibels[i].append(value)
    high = float(scipy.interpolate.pchip_interpolate(logs[0], decibels[0], math.log(MAX_BPP)))
    low = max(decibels[0][0], decibels[1][0])
    levels = np.linspace(low, min(high, decibels[1][-1]), 20001)
    plain, vcframe = (
        scipy.interpolate.pchip_interpolate(*pair, levels) for pair in zip(decibels, logs, strict=True)
    )
    mean = np.trapezoid(vcframe - plain, levels) / np.ptp(levels)
    found = getattr(row, f"bd_{name}")
    assert found.percent == pytest.approx(100 * math.expm1(mean), abs=1e-3)
    assert row.bd.percent != found.percent


def test_a_second_range_begins_where_the_first_ends(pictures: list[Path]) -> None:
    codec = JpegCodec()
    both = evaluate(codec, FakeModel(codec, step=8), pictures, ends_bpp=[0.4, 0.9])
    (high,) = both.later_ranges
    for row, upper in zip(both.images, high.images, strict=True):
        assert row.bd.psnr_high == upper.bd.psnr_low
        plain_bpp = [point.bpp for point in row.plain]
        decibels = [point.psnr_db for point in row.plain]
        expected = scipy.interpolate.pchip_interpolate(np.log(plain_bpp), decibels, np.log([0.4, 0.9]))
        assert (upper.bd.psnr_low, upper.bd.psnr_high) == pytest.approx(tuple(expected), abs=1e-9)
    # Carrier and payload weigh less in larger files, and coarse steps hurt more at higher PSNR.
    pair = both.alone(1).summary.mean, high.alone(1).summary.mean
    assert pair[0] is not None
    assert pair[1] is not None
    assert pair[1] > pair[0] + 1
    (later,) = both.to_json()["later_ranges"]
    assert later["span"] == (0.4, 0.9) or later["span"] == [0.4, 0.9]
    assert later["parts"]["scale 1"]["summary"]["mean"] == pair[1]
    text = printed(both)
    assert f"0.4 to 0.9 bpp, scale 1 alone: BD-rate: mean {pair[1]:+.2f} %" in text
    assert both.convention.count("0.4 bpp, then to 0.9 bpp") == 1


def test_a_plain_codec_that_starts_above_the_largest_rate_gives_no_number(pictures: list[Path]) -> None:
    codec = JpegCodec()
    row = evaluate(codec, FakeModel(codec), pictures[:1], ends_bpp=[0.05]).images[0]
    assert row.bd.percent is None
    assert f"the plain codec has {row.plain[0].bpp:.3f} to" in str(row.bd.reason)
    assert str(row.bd.reason).endswith("not 0 to 0.05: give a larger --max-bpp")


def test_the_summary_counts_spread_and_missing(identity: Evaluation) -> None:
    values = [-10.0, -20.0, -40.0, 5.0]
    row = identity.images[0]
    rows = [replace(row, bd=BdResult(v, None, 20, 30)) for v in values]
    rows.append(replace(row, bd=BdResult(None, "too few", None, None)))
    summary = replace(identity, images=tuple(rows)).summary
    assert (summary.num_images, summary.num_missing) == (5, 1)
    assert (summary.mean, summary.median) == pytest.approx((-16.25, -15))
    assert (summary.lower_quartile, summary.upper_quartile) == pytest.approx((-25, -6.25))


def test_fixed_rates_average_only_where_both_are_defined(identity: Evaluation) -> None:
    def points(low: float, high: float, base: float) -> tuple[RatePoint, ...]:
        return tuple(RatePoint(i, 1, b, base + i, 0.5) for i, b in enumerate((low, high)))

    row = identity.images[0]
    rows = (
        replace(row, plain=points(0.10, 0.30, 25), vcframe=points(0.05, 0.30, 27)),
        replace(row, plain=points(0.20, 0.30, 20), vcframe=points(0.05, 0.30, 22)),
    )
    rates = {rate.bpp: rate for rate in replace(identity, images=rows).fixed_rates}
    assert rates[0.05].num_images == 0
    assert rates[0.05].plain_psnr_db is None
    assert rates[0.10].num_images == 1
    assert rates[0.10].plain_psnr_db == pytest.approx(25)
    assert rates[0.30].num_images == 2
    assert (rates[0.30].plain_psnr_db, rates[0.30].vcframe_psnr_db) == pytest.approx(
        (23.5 - 0, 25.5 - 1 + 1 - 0)
    )


def test_json_holds_what_it_takes_to_measure_again(identity: Evaluation, pictures: list[Path]) -> None:
    content: dict[str, Any] = json.loads(json.dumps(identity.to_json(), allow_nan=False))
    assert (content["schema"], content["schema_version"]) == ("vcframe-evaluation", 4)
    assert content["command"]
    assert {"vcframe", "python", "numpy", "torch", "scikit-image", "system"} <= content["versions"].keys()
    assert content["codec"] == JpegCodec().config()
    assert content["codec_version"] == JpegCodec().version()
    assert content["model_id"] == "0badcafe"
    assert content["card"]["training"] == {"1": {"schedule": "none"}}
    assert "whole file with payload" in content["convention"]
    assert "lowest quality to 0.6 bpp" in content["convention"]
    assert content["summary"]["num_images"] == 2
    assert [rate["bpp"] for rate in content["fixed_rates"]] == [0.05, 0.1, 0.15, 0.2, 0.3, 0.5]
    for row, path in zip(content["images"], pictures, strict=True):
        assert row["name"] == path.name
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["plain"][0].keys() == {
            "quality",
            "num_bytes",
            "bpp",
            "psnr_db",
            "ssim",
            "scale",
            "ms_ssim",
        }


def test_another_plain_codec_beside_the_files_of_an_earlier_result(
    identity: Evaluation, pictures: list[Path]
) -> None:
    codec, other = JpegCodec(), JpegCodec(flat=0.5)
    model, settings = FakeModel(codec), {"plain": other, "ends_bpp": [MAX_BPP], "scale": 1}
    earlier = json.loads(json.dumps(identity.to_json()))
    measured = evaluate(codec, model, pictures[:1], **settings, earlier=earlier)
    again = evaluate(codec, model, pictures[:1], **settings)
    # As text: NaN is not equal to itself.
    rows = [str(evaluation.images[0]) for evaluation in (measured, again, identity)]
    assert rows[0] == rows[1] != rows[2]
    earlier["images"] = earlier["images"][1:]
    with pytest.raises(ImageError, match=r"left\.png is not in the earlier result"):
        evaluate(codec, model, pictures[:1], **settings, earlier=earlier)
    for change in ({"model_id": "12345678"}, {"ends_bpp": [0.3]}, {"schema_version": 3}):
        with pytest.raises(UsageError, match=r"earlier result .*: evaluate again"):
            evaluate(codec, model, pictures[:1], **settings, earlier=earlier | change)
    with pytest.raises(UsageError, match="earlier result is no vcframe-evaluation"):
        evaluate(codec, model, pictures[:1], **settings, earlier=[])


def test_an_evaluation_comes_back_from_json(tmp_path: Path, toy: ToyCodec, pictures: list[Path]) -> None:
    write_image(tmp_path / "a.png", np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    result = evaluate(toy, FakeModel(toy), [tmp_path / "a.png", tmp_path / "b.png", *pictures])
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["images"][0]["plain"][0]["ssim"] is None, "too small for it"
    assert json.loads(json.dumps(Evaluation.from_json(content).to_json())) == content


def test_progress_names_each_picture(pictures: list[Path], toy: ToyCodec) -> None:
    calls: list[tuple[int, int, str]] = []
    evaluate(toy, FakeModel(toy), pictures, [2], on_progress=lambda *call: calls.append(call))
    assert calls == [(0, 2, "left.png"), (1, 2, "right [x].png"), (2, 2, "")]


def test_bad_requests_are_refused(pictures: list[Path]) -> None:
    codec = JpegCodec()
    model = FakeModel(codec)
    for arguments, message in (
        ({"images": []}, "no pictures to evaluate"),
        ({"qualities": [500]}, "quality 500 is outside 1..95"),
        ({"qualities": []}, "no qualities"),
        ({"ends_bpp": [0]}, "largest rate 0 bpp must be above 0"),
        ({"ends_bpp": [0.3, 0.2]}, "largest rate 0.2 bpp must be above 0.3"),
        ({"codec": ToyCodec()}, "was trained for jpeg, not toy"),
    ):
        given: dict[str, Any] = {"codec": codec, "model": model, "images": pictures, **arguments}
        with pytest.raises(UsageError, match=message):
            evaluate(**given)


def test_the_printed_table_shows_every_picture_and_the_summary(identity: Evaluation) -> None:
    text = printed(identity)
    assert "model 0badcafe" in text
    for row in identity.images:
        assert row.name in text, "brackets in a name are no markup"
        assert f"{row.bd.percent:+.2f} %" in text
    summary = identity.summary
    assert f"mean {summary.mean:+.2f} %, median {summary.median:+.2f} %" in text
    assert "2 of 2 pictures" in text
    assert identity.convention in " ".join(text.split())
    for bpp in (bpp for bpp in FIXED_BPP if bpp <= MAX_BPP):
        assert f" {bpp:.2f} " in text

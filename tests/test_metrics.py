"""Metrics against scikit-image, Wang's formula written out, and the `bjontegaard` package."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc

import bjontegaard
import numpy as np
import pytest
import scipy.signal
import skimage.data
import skimage.metrics

from vcframe.codec import Image, UsageError
from vcframe.metrics import RatePoint, bd_rate, best_of, pareto_front, psnr, psnr_at_bpp, ssim


@pytest.fixture
def original() -> Image:
    return np.ascontiguousarray(skimage.data.astronaut()[:96, 40:160])


@pytest.fixture
def worse(original: Image) -> Image:
    noise = np.random.default_rng(1).normal(0, 12, original.shape)
    return np.clip(original + noise, 0, 255).astype(np.uint8)


def curve(rates: list[float], decibels: list[float]) -> list[RatePoint]:
    return [
        RatePoint(i, round(1000 * r), r, d, 0.5) for i, (r, d) in enumerate(zip(rates, decibels, strict=True))
    ]


def line(offset: float, slope: float, low: float, high: float, num: int = 7) -> list[RatePoint]:
    """A curve whose log rate is `offset + slope * dB`, which every piecewise cubic reproduces."""
    decibels = np.linspace(low, high, num)
    return curve(np.exp(offset + slope * decibels).tolist(), decibels.tolist())


# PSNR and SSIM


def test_psnr_is_that_of_scikit_image(original: Image, worse: Image) -> None:
    for a, b in ((original, worse), (original[:, :, 1], worse[:, :, 1])):
        reference = skimage.metrics.peak_signal_noise_ratio(a, b, data_range=255)
        assert psnr(a, b) == pytest.approx(reference, abs=1e-9)


def test_psnr_of_a_constant_error_is_the_closed_form(original: Image) -> None:
    low = np.minimum(original, 250)
    assert psnr(low, low + np.uint8(5)) == pytest.approx(20 * math.log10(255 / 5), abs=1e-9)


def test_psnr_takes_little_memory_beside_the_pictures() -> None:
    a, b = np.zeros((4000, 200, 3), np.uint8), np.ones((4000, 200, 3), np.uint8)
    tracemalloc.start()  # numpy reports its arrays to it
    try:
        assert psnr(a, b) == pytest.approx(20 * math.log10(255), abs=1e-9)
        assert 0 < tracemalloc.get_traced_memory()[1] < 8 * a.nbytes / 2
    finally:
        tracemalloc.stop()


def test_psnr_of_identical_pictures_is_100(original: Image) -> None:
    assert psnr(original, original.copy()) == 100.0


def test_ssim_is_that_of_scikit_image_in_wangs_settings(original: Image, worse: Image) -> None:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    reference = skimage.metrics.structural_similarity(original, worse, channel_axis=2, **settings)
    assert ssim(original, worse) == pytest.approx(reference, abs=1e-12)


def test_ssim_is_wangs_formula_written_out(original: Image, worse: Image) -> None:
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.signal.convolve2d(x, window, mode="valid"))

    values = []
    for channel in range(3):
        x, y = original[:, :, channel].astype(float), worse[:, :, channel].astype(float)
        mx, my = mean(x), mean(y)
        vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append(np.mean((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))
    assert ssim(original, worse) == pytest.approx(float(np.mean(values)), abs=1e-9)
    assert ssim(original[:, :, 0], worse[:, :, 0]) == pytest.approx(float(values[0]), abs=1e-9)


def test_ssim_is_undefined_under_11_pixels(original: Image) -> None:
    assert math.isnan(ssim(original[:10], original[:10]))
    assert ssim(original[:11, :11], original[:11, :11]) == pytest.approx(1)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_pictures_of_different_shapes_are_refused(metric: object, original: Image) -> None:
    assert callable(metric)
    with pytest.raises(UsageError, match=r"\(96, 120, 3\) and \(96, 120\)"):
        metric(original, original[:, :, 0])
    with pytest.raises(UsageError, match="cannot compare"):
        metric(original[:0], original[:0])


# BD-rate


@pytest.mark.parametrize("seed", range(8))
def test_bd_rate_is_that_of_the_bjontegaard_package(seed: int) -> None:
    random = np.random.default_rng(seed)
    rates = [np.cumprod(random.uniform(1.1, 1.8, 8)) * random.uniform(0.03, 0.06) for _ in range(2)]
    decibels = [np.cumsum(random.uniform(0.4, 2.0, 8)) + random.uniform(22, 25) for _ in range(2)]
    reference = bjontegaard.bd_rate(
        rates[0], decibels[0], rates[1], decibels[1], method="pchip", min_overlap=0
    )
    result = bd_rate(*(curve(r.tolist(), d.tolist()) for r, d in zip(rates, decibels, strict=True)))
    assert result.percent == pytest.approx(reference, abs=1e-6)
    assert result.reason is None
    assert result.psnr_low == max(d[0] for d in decibels)
    assert result.psnr_high == min(d[-1] for d in decibels)


def test_a_fifth_fewer_bits_everywhere_is_minus_20_per_cent() -> None:
    rates, decibels = [0.05, 0.09, 0.2, 0.31], [24.0, 26.5, 29.0, 30.0]
    result = bd_rate(curve(rates, decibels), curve([0.8 * r for r in rates], decibels))
    assert result.percent == pytest.approx(-20, abs=1e-9)


@pytest.mark.parametrize(
    ("psnr_range", "low", "high"),
    [(None, 25, 32), ((26.0, 29.0), 26, 29), ((20.0, 29.0), 25, 29), ((27.5, 99.0), 27.5, 32)],
)
def test_the_mean_is_over_the_range_cut_to_both_curves(
    psnr_range: tuple[float, float] | None, low: float, high: float
) -> None:
    anchor, test = line(-6.0, 0.15, 24, 32), line(-7.4, 0.19, 25, 33)
    result = bd_rate(anchor, test, psnr_range)
    mean_log_ratio = -1.4 + 0.04 * (low + high) / 2
    assert result.percent == pytest.approx(100 * (math.exp(mean_log_ratio) - 1), abs=1e-6)
    assert (result.psnr_low, result.psnr_high) == pytest.approx((low, high))


def test_dominated_points_change_nothing() -> None:
    anchor, test = line(-6.0, 0.15, 24, 32), line(-6.2, 0.15, 24, 32)
    dominated = [RatePoint(9, 1, test[3].bpp * 1.01, test[3].psnr_db - 0.01, 0.5), test[2]]
    assert bd_rate(anchor, dominated + test[::-1]) == bd_rate(anchor, test)


def test_the_front_is_strictly_monotone_in_rate_and_psnr() -> None:
    points = curve([0.1, 0.1, 0.2, 0.3, 0.4, 0.5], [25.0, 26.0, 25.5, 26.0, 28.0, 27.0])
    assert [(p.bpp, p.psnr_db) for p in pareto_front(points)] == [(0.1, 26.0), (0.4, 28.0)]


def test_the_best_of_two_curves_is_the_better_one_where_it_is_better() -> None:
    plain, always = line(-8, 0.2, 24, 34), line(-8.02, 0.2, 24.5, 34.5)
    # The points of both alternate by rate, so their common Pareto front holds points of both.
    assert {point.psnr_db for point in pareto_front([*plain, *always])} > {p.psnr_db for p in always}
    assert best_of([plain, always]) == [plain[0], *always]
    assert best_of([plain]) == plain
    # Steeper, and equal at 29 dB: from there on the other is better.
    crossing = line(-8 - 29 * 0.1, 0.3, 24, 34, 11)
    both = best_of([plain, crossing])
    assert all((point in crossing) == (point.psnr_db < 29) for point in both if point.psnr_db != 29)
    percent = bd_rate(plain, both, (24, 34)).percent
    # Log rate differs by 0.1 per dB below 29 dB and by nothing above: 0.25 on average over the lower half.
    assert percent == pytest.approx(100 * math.expm1(-0.125), abs=0.2)


def test_no_number_without_three_points_on_the_front() -> None:
    good, short = line(-6.0, 0.15, 24, 32), line(-6.0, 0.15, 24, 32, num=2)
    three = line(-6.0, 0.15, 24, 32, num=3)
    assert bd_rate(good, three).percent == pytest.approx(0, abs=1e-9)
    for anchor, test, name in ((good, short, "test"), (short, good, "anchor"), (good, [], "test")):
        result = bd_rate(anchor, test)
        assert result.percent is None
        assert str(result.reason).startswith(f"{name} curve has {0 if not test else 2} points, needs 3")
    folded = [*short, RatePoint(5, 1, 9.0, 20.0, 0.1)]
    assert bd_rate(good, folded).reason == "test curve has 2 points, needs 3"


@pytest.mark.parametrize(
    ("top", "psnr_range", "shared"),
    [(24.4, None, "0.40"), (23.0, None, "0.00"), (30.0, (29.51, 40.0), "0.49"), (30.0, (35.0, 40.0), "0.00")],
)
def test_no_number_without_half_a_decibel_in_common(
    top: float, psnr_range: tuple[float, float] | None, shared: str
) -> None:
    result = bd_rate(line(-6.0, 0.15, 24, 32), line(-6.0, 0.15, 20, top), psnr_range)
    assert result.percent is None
    assert result.reason == f"curves share {shared} dB, needs 0.5"


def test_half_a_decibel_in_common_is_enough() -> None:
    result = bd_rate(line(-6.0, 0.15, 24, 32), line(-6.1, 0.15, 20, 24.5))
    assert result.percent == pytest.approx(100 * (math.exp(-0.1) - 1), abs=1e-6)


# PSNR at a rate


def test_psnr_at_a_rate_is_interpolated_over_the_logarithm() -> None:
    points = line(-6.0, 0.15, 24, 32)
    for bpp in (0.1, 0.15, 0.25):
        assert psnr_at_bpp(points, bpp) == pytest.approx((math.log(bpp) + 6) / 0.15, abs=1e-9)
    for point in points:
        assert psnr_at_bpp(points, point.bpp) == pytest.approx(point.psnr_db, abs=1e-9)


def test_psnr_at_a_rate_is_never_extrapolated() -> None:
    points = curve([0.1, 0.2, 0.3], [25.0, 26.0, 27.0])
    assert psnr_at_bpp(points, 0.0999) is None
    assert psnr_at_bpp(points, 0.3001) is None
    assert psnr_at_bpp([], 0.1) is None
    assert psnr_at_bpp(points[:1], 0.1) == 25.0
    assert psnr_at_bpp(points[:1], 0.11) is None


def test_metrics_load_no_torch() -> None:
    code = (
        "import sys, numpy as np; from vcframe.metrics import *; a = np.zeros((12, 12), np.uint8); "
        "p = [RatePoint(i, 1, 0.1 + i, 20.0 + i, 1) for i in range(4)]; bd_rate(p, p); psnr_at_bpp(p, 0.5); "
        "ssim(a, a); print(psnr(a, a), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["100.0", "False"]

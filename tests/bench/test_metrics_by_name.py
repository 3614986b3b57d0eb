"""The metrics of a benchmark, each against a second implementation or a stand-in for what is not at hand."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import scipy.signal
import skimage.data
import skimage.metrics
import torch
from command_line import ok, run
from conftest import Installer
from plugin_sources import plugin

from vcframe.bench import metrics
from vcframe.bench.metrics import METRICS, all_metrics, find_metrics
from vcframe.codec import Image, ImageError, PluginError, UsageError
from vcframe.images import luma, read_image
from vcframe.registry import Registry


@pytest.fixture(scope="module")
def original() -> Image:
    return np.ascontiguousarray(skimage.data.astronaut()[40:240, 100:320])


@pytest.fixture(scope="module")
def worse(original: Image) -> Image:
    return Registry.load().codec("jpeg").roundtrip(original, 20)[0]


@pytest.fixture(scope="module")
def bad(original: Image) -> Image:
    return Registry.load().codec("jpeg").roundtrip(original, 5)[0]


def test_every_metric_knows_better_from_worse(original: Image, worse: Image, bad: Image) -> None:
    measured = 0
    for metric in METRICS.values():
        if metric.unavailable() is None:
            measured += 1
            good, less, least = (metric.measure(original, other) for other in (original, worse, bad))
            assert (good > less > least) == (metric.better == "higher"), metric.name
            assert (good < less < least) == (metric.better == "lower"), metric.name
    assert measured >= 5


def test_luma_psnr_is_that_of_opencv_s_luma(original: Image, worse: Image) -> None:
    planes = [cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb) for image in (original, worse)]
    decibels = [
        skimage.metrics.peak_signal_noise_ratio(planes[0][:, :, i], planes[1][:, :, i], data_range=255)
        for i in range(3)
    ]
    # The two round some samples differently, by one level.
    assert METRICS["psnr_y"].measure(original, worse) == pytest.approx(decibels[0], abs=0.02)
    weighted = (6 * decibels[0] + decibels[1] + decibels[2]) / 8
    assert METRICS["psnr_611"].measure(original, worse) == pytest.approx(weighted, abs=0.05)


def test_of_grey_there_is_luma_only(original: Image, worse: Image) -> None:
    grey = luma(original), luma(worse)
    assert METRICS["psnr_611"].measure(*grey) == METRICS["psnr_y"].measure(*grey)
    assert METRICS["psnr_y"].measure(*grey) == METRICS["psnr"].measure(*grey)


def test_ms_ssim_is_its_authors_formula_written_out(original: Image, worse: Image) -> None:
    """Sides that halve four times: implementations differ in what becomes of an odd row."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.signal.fftconvolve(x, window, mode="valid"))

    def halved(x: np.ndarray) -> np.ndarray:
        return np.asarray(x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3)))

    def formula(x: np.ndarray, y: np.ndarray) -> float:
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale > 0:
                x, y = halved(x), halved(y)
            mx, my = mean(x), mean(y)
            vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
            structure = (2 * vxy + c2) / (vx + vy + c2)
            luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1) if scale == 4 else 1.0
            product *= float(np.mean(luminance * structure)) ** weight
        return product

    a, b = original[:192, :208], worse[:192, :208]
    channels = [formula(a[:, :, i].astype(float), b[:, :, i].astype(float)) for i in range(3)]
    assert METRICS["ms_ssim"].measure(a, b) == pytest.approx(np.mean(channels), abs=1e-5)
    assert METRICS["ms_ssim"].measure(a[:, :, 0], b[:, :, 0]) == pytest.approx(channels[0], abs=1e-5)


def test_ms_ssim_is_undefined_under_161_pixels(original: Image) -> None:
    ms_ssim = METRICS["ms_ssim"]
    assert math.isnan(ms_ssim.measure(original[:160], original[:160]))
    assert ms_ssim.measure(original[:161, :161], original[:161, :161]) == pytest.approx(1)


# VMAF


def test_vmaf_is_a_percentage_and_sees_the_restored_picture(original: Image, bad: Image) -> None:
    vmaf = METRICS["vmaf"]
    if vmaf.unavailable() is not None:
        pytest.skip(str(vmaf.unavailable()))
    assert 90 < vmaf.measure(original, original) <= 100
    assert 0 <= vmaf.measure(original, bad) < 70
    # Only the restored picture may be rewarded for contrast.
    sharper = np.clip(1.3 * (original.astype(float) - 128) + 128, 0, 255).astype(np.uint8)
    assert vmaf.measure(original, sharper) > vmaf.measure(sharper, original)


def test_an_ffmpeg_without_vmaf_does_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho ' ... scale  V->V  Scale the input.'\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    metrics._ffmpeg.cache_clear()
    try:
        assert "no ffmpeg with libvmaf" in str(METRICS["vmaf"].unavailable())
        (tmp_path / "ffmpeg").write_text(
            "#!/bin/sh\ncase $1 in -filters) echo ' .. libvmaf  VMAF';; *) echo boom >&2; exit 1;; esac\n"
        )
        metrics._ffmpeg.cache_clear()
        assert METRICS["vmaf"].unavailable() is None
        with pytest.raises(ImageError, match="vmaf: FFmpeg failed: boom"):
            METRICS["vmaf"].measure(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8))
    finally:
        metrics._ffmpeg.cache_clear()


# SSIMULACRA 2


@pytest.fixture
def ssimulacra2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where a program of that name is looked for; there is none."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    metrics._no_ssimulacra2.cache_clear()
    yield tmp_path / "ssimulacra2"
    metrics._no_ssimulacra2.cache_clear()


def put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    metrics._no_ssimulacra2.cache_clear()


def test_ssimulacra2_is_what_libjxl_s_program_prints(ssimulacra2: Path, original: Image, bad: Image) -> None:
    metric = METRICS["ssimulacra2"]
    assert "no program ssimulacra2 on the PATH" in str(metric.unavailable())
    put(ssimulacra2, 'cmp -s "$1" "$2" && echo 100.00000000 || echo 80.29000000')
    assert metric.unavailable() is None
    assert metric.measure(original, original) == 100
    assert metric.measure(original, bad) == 80.29
    assert metric.measure(luma(original), luma(bad)) == 80.29
    # The original comes first: the score is not symmetric.
    copied = ssimulacra2.with_name("first.png")
    put(ssimulacra2, f'cp "$1" {copied}; echo 80.29')
    metric.measure(original, bad)
    assert np.array_equal(read_image(copied), original)


def test_another_program_of_the_name_is_not_taken(ssimulacra2: Path) -> None:
    put(ssimulacra2, "echo 82.64")
    assert "is not libjxl's: a score of 82.64" in str(METRICS["ssimulacra2"].unavailable())
    put(ssimulacra2, "echo 'cannot read' >&2; exit 1")
    assert "the program failed: cannot read" in str(METRICS["ssimulacra2"].unavailable())


# LPIPS and DISTS


@pytest.mark.parametrize(("name", "own"), [("lpips", "lpips_weights.pt"), ("dists", "dists_weights.pt")])
def test_networks_run_where_their_weights_lie_and_nothing_is_downloaded(
    name: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Image, worse: Image
) -> None:
    metric = METRICS[name]
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(metrics, "find_spec", lambda module: None)
    assert metric.unavailable() == "piq is not installed; install it with: pip install piq"
    monkeypatch.setattr(metrics, "find_spec", lambda module: "installed")
    assert f"put vgg16-397923af.pth and {own} into {folder}" in str(metric.unavailable())
    (folder / "vgg16-397923af.pth").touch()
    assert f"put {own} into {folder}" in str(metric.unavailable())
    (folder / own).touch()
    assert metric.unavailable() is None

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            assert x.shape == y.shape == (1, 3, *original.shape[:2])
            return (x - y).abs().mean()

    monkeypatch.setitem(sys.modules, "piq", SimpleNamespace(LPIPS=Mean, DISTS=Mean))
    metrics._network.cache_clear()
    try:
        expected = np.abs(original / 255 - worse / 255).mean()
        assert metric.measure(original, worse) == pytest.approx(expected, rel=1e-4)
        expected = np.abs(luma(original) / 255 - luma(worse) / 255).mean()
        assert metric.measure(luma(original), luma(worse)) == pytest.approx(expected, rel=1e-4)
    finally:
        metrics._network.cache_clear()


# By name


def test_metrics_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.load()
    assert [metric.name for metric in find_metrics(["ssim", "psnr"], registry)] == ["ssim", "psnr"]
    with pytest.raises(UsageError, match=r"unknown metric 'mssim'; did you mean .*'ms_ssim'"):
        find_metrics(["mssim"], registry)
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"'ms_ssim' cannot run here: .*pip install 'vcframe\[bench\]'"):
        find_metrics(["ms_ssim"], registry)


def test_a_plugin_s_metric_is_one_of_them(install: Installer, original: Image, worse: Image) -> None:
    body = """
    @hookimpl
    def vcframe_metrics(): return [Metric("largest", "", "lower", lambda a, b: float(abs(a - 0. - b).max()))]
    """
    install("a", {"a": "metric_a"}, metric_a=plugin(body=body))
    registry = Registry.load()
    (metric,) = find_metrics(["largest"], registry)
    assert metric.measure(original, worse) == np.abs(original.astype(int) - worse).max()
    rows = {row["metric"]: row for row in json.loads(ok("metrics", "--json").stdout)}
    assert list(rows) == [*METRICS, "largest"]
    assert rows["largest"] | {"better": "lower", "from": "a plugin", "unavailable": None} == rows["largest"]
    assert rows["psnr"]["unit"] == "dB"


def test_the_metric_in_the_contributors_guide_works(tmp_path: Path, original: Image) -> None:
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (tmp_path / "mine.py").write_text(
        guide.split("## Add a metric")[1].split("```python\n")[1].split("```")[0]
    )
    (metric,) = find_metrics(["mean_error"], Registry.load(plugin_files=[tmp_path / "mine.py"]))
    assert metric.unit == "levels"
    assert metric.measure(original, np.full_like(original, 100)) == np.abs(original.astype(int) - 100).mean()


def test_a_plugin_s_metric_may_not_pose_as_ours(install: Installer) -> None:
    body = "@hookimpl\ndef vcframe_metrics(): return [Metric('psnr', 'dB', 'higher', lambda a, b: 99.0)]"
    install("a", {"a": "metric_a"}, metric_a=plugin(body=body))
    with pytest.raises(PluginError, match="'psnr' of a plugin is vcframe's own"):
        all_metrics(Registry.load())


def test_the_command_names_what_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    result = run("metrics")
    assert result.exit_code == 0
    assert "psnr_611" in result.stdout
    assert "metric ms_ssim cannot run here: pytorch_msssim is not installed" in result.stderr

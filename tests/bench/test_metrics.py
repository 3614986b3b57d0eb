"""The metrics of a benchmark, each against a second implementation or a stand-in for what is not at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import skimage.metrics
import torch
from command_line import ok, run
from conftest import Installer
from plugin_sources import plugin

from vcframe.bench import metrics
from vcframe.bench.metrics import METRICS, all_metrics, find_metrics
from vcframe.codec import Image, ImageError, PluginError, UsageError
from vcframe.images import luma
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


def test_ms_ssim_is_that_of_piq(original: Image, worse: Image) -> None:
    piq = pytest.importorskip("piq")
    for pair in ((original, worse), (luma(original), luma(worse))):
        x, y = (
            torch.from_numpy(image.reshape(1, *image.shape[:2], -1)).permute(0, 3, 1, 2) for image in pair
        )
        reference = float(piq.multi_scale_ssim(x / 255, y / 255, data_range=1.0))
        assert METRICS["ms_ssim"].measure(*pair) == pytest.approx(reference, abs=1e-5)


def test_ms_ssim_is_undefined_under_161_pixels(original: Image) -> None:
    ms_ssim = METRICS["ms_ssim"]
    assert math.isnan(ms_ssim.measure(original[:160], original[:160]))
    assert ms_ssim.measure(original[:161, :161], original[:161, :161]) == pytest.approx(1)


def test_ssimulacra2_is_on_its_authors_scale(original: Image, bad: Image) -> None:
    """100 is the same picture; its authors place libjpeg-turbo's quality 14 at 10, on average."""
    pytest.importorskip("ssimulacra2")
    ssimulacra2 = METRICS["ssimulacra2"]
    assert ssimulacra2.measure(original, original) == 100
    assert ssimulacra2.measure(original, bad) < 10
    assert ssimulacra2.measure(luma(original), luma(bad)) < 30
    assert math.isnan(ssimulacra2.measure(original[:7], original[:7]))


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
            "#!/bin/sh\ncase $1 in -filters) echo ' .. libvmaf  VV->V  VMAF';; *) echo boom >&2; exit 1;; esac\n"
        )
        metrics._ffmpeg.cache_clear()
        assert METRICS["vmaf"].unavailable() is None
        with pytest.raises(ImageError, match="vmaf: FFmpeg failed: boom"):
            METRICS["vmaf"].measure(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8))
    finally:
        metrics._ffmpeg.cache_clear()


# LPIPS and DISTS


@pytest.mark.parametrize(("name", "own"), [("lpips", "lpips_weights.pt"), ("dists", "dists_weights.pt")])
def test_networks_run_where_their_weights_lie_and_nothing_is_downloaded(
    name: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Image, worse: Image
) -> None:
    piq = pytest.importorskip("piq")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    metric = METRICS[name]
    assert f"put vgg16-397923af.pth and {own} into {folder}" in str(metric.unavailable())
    (folder / "vgg16-397923af.pth").touch()
    assert f"put {own} into {folder}" in str(metric.unavailable())
    (folder / own).touch()
    assert metric.unavailable() is None

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            assert x.shape == y.shape == (1, 3, *original.shape[:2])
            return (x - y).abs().mean()

    monkeypatch.setattr(piq, name.upper(), Mean)
    metrics._network.cache_clear()
    try:
        expected = np.abs(original / 255 - worse / 255).mean()
        assert metric.measure(original, worse) == pytest.approx(expected, rel=1e-4)
        expected = np.abs(luma(original) / 255 - luma(worse) / 255).mean()
        assert metric.measure(luma(original), luma(worse)) == pytest.approx(expected, rel=1e-4)
    finally:
        metrics._network.cache_clear()


def test_the_weights_have_the_names_that_piq_looks_for() -> None:
    piq = pytest.importorskip("piq")
    assert piq.LPIPS._weights_url.endswith("/lpips_weights.pt")
    assert piq.DISTS._weights_url.endswith("/dists_weights.pt")
    vgg16 = pytest.importorskip("torchvision").models.VGG16_Weights.IMAGENET1K_V1
    assert vgg16.url.endswith("/" + metrics.VGG16_WEIGHTS)


# By name


def test_metrics_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.load()
    assert [metric.name for metric in find_metrics(["ssim", "psnr"], registry)] == ["ssim", "psnr"]
    with pytest.raises(UsageError, match="unknown metric 'mssim'; did you mean 'ms_ssim'"):
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

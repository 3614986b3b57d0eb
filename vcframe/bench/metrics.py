"""The metrics by name; a stand-in with those of `vcframe.metrics` alone."""

from __future__ import annotations

from vcframe.metrics import Metric, psnr, ssim
from vcframe.registry import Registry


def all_metrics(registry: Registry) -> dict[str, Metric]:
    """Every metric by name."""
    own = Metric("psnr", "dB", "higher", psnr), Metric("ssim", "", "higher", ssim)
    return {metric.name: metric for metric in (*own, *registry.metrics())}

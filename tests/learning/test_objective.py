"""Objectives against scikit-image and against their own definition by finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import skimage.metrics
import torch

from vcframe.learning.objective import (
    content_and_gradient,
    dssim,
    rate_distortion,
    relative_dssim,
    relative_mse,
)


def test_dssim_agrees_with_scikit_image() -> None:
    a = skimage.data.camera()[:96, :96] / 255.0
    b = np.clip(a + np.random.default_rng(0).normal(0, 0.05, a.shape), 0, 1)
    # scikit-image filters the whole picture and crops 5 pixels; ours has only whole windows: the same mean.
    expected = skimage.metrics.structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    ours = dssim(*(torch.from_numpy(z)[None, None] for z in (a, b)))
    assert float(1 - 2 * ours) == pytest.approx(expected, abs=1e-6)


def test_relative_dssim_counts_relative_gains() -> None:
    a = torch.from_numpy(skimage.data.astronaut()[:64, :64] / 255.0).permute(2, 0, 1)[None]
    far, near = (a + s * torch.randn(a.shape, generator=torch.manual_seed(0)) for s in (0.2, 0.02))
    both = relative_dssim(torch.cat([far, near]), torch.cat([a, a]))
    assert float(both) == pytest.approx(float(dssim(far, a).log() + dssim(near, a).log()) / 2, abs=1e-6)


def test_content_and_gradient_by_hand() -> None:
    x = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    # |x| mean 1/4; horizontal differences 1 and 0: 1/2; vertical differences 0 and -1: 1/2.
    assert float(content_and_gradient(x, torch.zeros_like(x))) == pytest.approx(1.25)


def test_rate_distortion_moves_along_the_slope_for_free() -> None:
    mse, bits, slope = torch.tensor([1e-3]), torch.tensor([5000.0]), torch.tensor([0.5])
    here = rate_distortion(mse, bits, slope)
    # On a curve with that slope 10 % more bits buy a factor 1.1 ** -0.5 of error: the objective stands still.
    along = rate_distortion(mse * 1.1**-0.5, bits * 1.1, slope)
    assert float(along - here) == pytest.approx(0.0, abs=1e-6)
    dearer = rate_distortion(mse, bits * 1.1, slope)
    assert float(dearer - here) == pytest.approx(0.5 * math.log(1.1), abs=1e-6)


def test_relative_mse_has_the_gradient_of_the_whole_crops_log_mse() -> None:
    torch.manual_seed(0)
    original, restored = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8, requires_grad=True)
    whole_mse = (restored - original).square().mean()
    (expected,) = torch.autograd.grad(whole_mse.log(), restored, retain_graph=True)
    loss = relative_mse(restored, original, whole_mse.detach()[None])
    (gradient,) = torch.autograd.grad(loss, restored)
    assert torch.allclose(gradient, expected, atol=1e-7)

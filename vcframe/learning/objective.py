"""What the networks minimise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vcframe.learning.coded import MIN_NET_BITS

MIN_MSE = 1e-6
"""Floor of the squared error (60 dB), so that flat pictures do not dominate the logarithm."""
MIN_DSSIM = 1e-4
"""The same for the structural dissimilarity."""


def mse_per_picture(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mean squared error of each picture, `(B,)`."""
    return (x_BCHW - y_BCHW).square().mean((1, 2, 3))


def relative_mse(restored_BCHW: Tensor, original_BCHW: Tensor, plain_mse_B: Tensor) -> Tensor:
    """Patch errors over the error of the whole crop that each patch was cut from.

    This has the gradient of `log(mse)` of the whole crop, where `log` of the patch's own error would let
    smooth patches drown the others.
    """
    mse_B = mse_per_picture(restored_BCHW, original_BCHW)
    return (mse_B / plain_mse_B.clamp(min=MIN_MSE)).mean()


def rate_distortion(mse_B: Tensor, bits_B: Tensor, slope_B: Tensor) -> Tensor:
    """`log(mse) + slope * log(bits)`, averaged: dimensionless, so one objective serves every quality.

    `bits_B` are net of the fixed cost of a file, and `slope_B` is the slope of the system's own curve at each
    quality, so that the description network moves beyond the curve and not along it.
    """
    return (mse_B.clamp(min=MIN_MSE).log() + slope_B * bits_B.clamp(min=MIN_NET_BITS).log()).mean()


def relative_dssim(restored_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
    """`log` of the structural dissimilarity: relative gains, as those of the error, at every quality."""
    return dssim(restored_BCHW, original_BCHW).clamp(min=MIN_DSSIM).log().mean()


def content_and_gradient(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """The paper's objective: L1 of the samples plus L1 of the horizontal and vertical differences."""
    difference = x_BCHW - y_BCHW
    horizontal = (difference[..., :, 1:] - difference[..., :, :-1]).abs().mean()
    vertical = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return difference.abs().mean() + horizontal + vertical


def dssim(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Structural dissimilarity `(1 - SSIM) / 2` of each picture, `(B,)`.

    SSIM of Wang et al. 2004: 11x11 Gaussian, sigma 1.5.
    """
    channels = x_BCHW.shape[1]
    axis = torch.arange(11, device=x_BCHW.device, dtype=x_BCHW.dtype) - 5
    gauss = torch.exp(-axis.square() / (2 * 1.5**2))
    window = (gauss[:, None] * gauss[None, :] / gauss.sum() ** 2).expand(channels, 1, 11, 11).contiguous()

    def blur(z_BCHW: Tensor) -> Tensor:
        return F.conv2d(z_BCHW, window, groups=channels)

    mean_x, mean_y = blur(x_BCHW), blur(y_BCHW)
    var_x = blur(x_BCHW * x_BCHW) - mean_x.square()
    var_y = blur(y_BCHW * y_BCHW) - mean_y.square()
    covariance = blur(x_BCHW * y_BCHW) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    )
    return (1 - ssim.mean((1, 2, 3))) / 2

"""The networks of the codec `neural`: pixels to latents and back, and the quantiser between.

After Ballé, Laparra and Simoncelli, "End-to-end Optimized Image Compression" (ICLR 2017), changed so that
minutes of training on a processor are enough: analysis and synthesis start as a block DCT of opponent
colours, to which convolutions add what they learn; one quantiser step for all latents varies the rate;
rectifiers take the place of divisive normalisation. Weights are a dictionary of tensors, so that importing
this file does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Weights = Mapping[str, Tensor]

BLOCK = 8
"""Side of the pixel block of one latent position."""
CHROMA_SIDE = 4
"""Of the two colour differences the lowest 4x4 of 8x8 frequencies are kept."""
NUM_LATENTS = BLOCK**2 + 2 * CHROMA_SIDE**2
HIDDEN = 64
ROUNDING = 0.4
"""Magnitudes are rounded up from 1 - 0.4: the dead zone of rate-distortion optimised quantisers."""
PIXEL_SCALE, LATENT_SCALE = 1 / 64, 1 / 64
"""What brings pixels and latents near 1 at the entrance of the convolutions."""


def fresh_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """Weights with which the codec is a block DCT: the last convolution of either branch is zero."""
    import torch

    basis = torch.from_numpy(_basis().astype(np.float32))
    shapes = {
        "analysis.0": (HIDDEN, 3 * BLOCK**2),
        "analysis.1": (NUM_LATENTS, HIDDEN),
        "synthesis.0": (HIDDEN, NUM_LATENTS),
        "synthesis.1": (HIDDEN, HIDDEN),
        "synthesis.2": (3 * BLOCK**2, HIDDEN),
    }
    weights = {"analysis.linear": basis[:, :, None, None], "synthesis.linear": basis.T[:, :, None, None]}
    for name, (outputs, inputs) in shapes.items():
        last = name in ("analysis.1", "synthesis.2")
        scale = 0.0 if last else (2 / (9 * inputs)) ** 0.5
        weights[f"{name}.weight"] = scale * torch.randn(outputs, inputs, 3, 3, generator=generator)
        weights[f"{name}.bias"] = torch.zeros(outputs)
        if not last:
            # How much of the feature at each step: 1 + gain * log2(step)
            weights[f"{name}.gain"] = torch.zeros(outputs)
    return {name: value.contiguous() for name, value in weights.items()}


def analyse(weights: Weights, x_BCHW: Tensor, step_B: Tensor) -> Tensor:
    """Pixels 0..255, sides multiples of 8, to latents `(B, 96, H / 8, W / 8)` in units of the step."""
    import torch.nn.functional as F

    step = step_B[:, None, None, None]
    pixels = F.pixel_unshuffle(x_BCHW - 128.0, BLOCK)
    hidden = _layer(weights, "analysis.0", pixels * PIXEL_SCALE, step_B)
    return F.conv2d(pixels, weights["analysis.linear"]) / step + _conv(weights, "analysis.1", hidden)


def synthesise(weights: Weights, latents_BCHW: Tensor, step_B: Tensor) -> Tensor:
    """Whole-numbered latents to pixels, about 0..255."""
    import torch.nn.functional as F

    step = step_B[:, None, None, None]
    latents = latents_BCHW * step
    hidden = _layer(weights, "synthesis.0", latents * LATENT_SCALE, step_B)
    hidden = _layer(weights, "synthesis.1", hidden, step_B)
    pixels = F.conv2d(latents, weights["synthesis.linear"]) + step * _conv(weights, "synthesis.2", hidden)
    return F.pixel_shuffle(pixels, BLOCK) + 128.0


def quantise(latents: Tensor) -> Tensor:
    """Round to whole numbers with a dead zone."""
    return latents.sign() * (latents.abs() + ROUNDING).floor()


def _layer(weights: Weights, name: str, x: Tensor, step_B: Tensor) -> Tensor:
    gain = 1 + step_B.log2()[:, None] * weights[f"{name}.gain"]
    return _conv(weights, name, x).relu() * gain[:, :, None, None]


def _conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    import torch.nn.functional as F

    # The edge repeated: zeros would draw a dark frame.
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _basis() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Orthonormal rows: frequencies of the block DCT of brightness and two colour differences, lowest first.

    Columns are in the order of `pixel_unshuffle`: channel, row, column.
    """
    frequency, place = np.mgrid[:BLOCK, :BLOCK]
    dct = np.sqrt(2 / BLOCK) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * BLOCK))
    dct[0] /= np.sqrt(2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    rows = []
    for down, across, colour in np.ndindex(BLOCK, BLOCK, 3):
        if colour == 0 or max(down, across) < CHROMA_SIDE:
            row = np.einsum("c,y,x->cyx", colours[colour], dct[down], dct[across])
            rows.append((down + across, colour, down, row.ravel()))
    # Of equal frequencies brightness first.
    return np.stack([row for *_, row in sorted(rows, key=lambda entry: entry[:3])])

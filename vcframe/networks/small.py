"""Preset `small`: compact colour networks, one set for the whole quality sweep.

Every network predicts a residual on top of a classical operation and starts at exactly that operation:
training begins at the plain codec and can only add. Trunks run on pixel-unshuffled input, where dense
3x3 convolutions see far and cost little.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vcframe.networks.layers import QualityGain, Trunk, downsample, pad_to_multiple, upsample

POST_GRID = 2
"""The post-processing trunk runs at 1/POST_GRID of the original size, whatever the scale."""
TYPICAL_BITS = 32.0
"""Bits of a block that the network starts from, up to softplus(0): training starts at the right magnitude."""


class SmallDescription(nn.Module):
    """Plain resampling plus a residual.

    At full size the input is unshuffled by the codec's block grid, so that each position of the trunk is
    one block and the network knows the block phase.
    """

    def __init__(self, channels: int, scale: int, block: int) -> None:
        super().__init__()
        self.scale = scale
        self.grid = max(block, 4) if scale == 1 else 2 * scale
        out_grid = self.grid // scale
        self.trunk = Trunk(channels * self.grid**2, 48, 2, channels * out_grid**2)
        self.shuffle = nn.PixelShuffle(out_grid)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        """`(B, C, H, W)` in 0..1 to `(B, C, ceil(H/scale), ceil(W/scale))` in 0..1, not rounded."""
        plain = downsample(x_BCHW, self.scale)
        blocks = F.pixel_unshuffle(pad_to_multiple(x_BCHW, self.grid), self.grid)
        residual = self.shuffle(self.trunk(blocks - 0.5, unit_B))
        return (plain + residual[..., : plain.shape[-2], : plain.shape[-1]]).clamp(0, 1)


class SmallPostProcessing(nn.Module):
    """Bicubic enlargement of the decoded picture plus a residual."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.grid = POST_GRID // scale
        self.trunk = Trunk(channels * self.grid**2, 40, 3, channels * POST_GRID**2)
        self.shuffle = nn.PixelShuffle(POST_GRID)

    def forward(self, decoded_BCHW: Tensor, unit_B: Tensor, size: tuple[int, int]) -> Tensor:
        """Decoded description to `(B, C, *size)`, nominally in 0..1 but not clipped."""
        plain = upsample(decoded_BCHW, self.scale)[..., : size[0], : size[1]]
        blocks = F.pixel_unshuffle(pad_to_multiple(decoded_BCHW, self.grid), self.grid)
        residual = self.shuffle(self.trunk(blocks - 0.5, unit_B))
        return plain + residual[..., : size[0], : size[1]]


class SmallVirtualCodec(nn.Module):
    """The codec's differentiable stand-in: predicted coding error and non-negative bits per 8x8 block."""

    grid = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = Trunk(channels * self.grid**2, 96, 3, channels * self.grid**2 + 1)
        self.bits_gain = QualityGain(1)
        self.shuffle = nn.PixelShuffle(self.grid)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
        """Description `(B, C, h, w)` in 0..1 to the decoded picture, same shape, and the bits, `(B,)`."""
        height, width = x_BCHW.shape[-2:]
        blocks = F.pixel_unshuffle(pad_to_multiple(x_BCHW, self.grid), self.grid)
        # The block's mean costs next to nothing to code; what is left is what bits and errors depend on.
        channels = x_BCHW.shape[1]
        per_channel = blocks.unflatten(1, (channels, -1))
        detail = (per_channel - per_channel.mean(2, keepdim=True)).flatten(1, 2)
        out = self.trunk(4 * detail, unit_B)
        error = self.shuffle(out[:, :-1])[..., :height, :width]
        bits = TYPICAL_BITS * F.softplus(self.bits_gain(out[:, -1:], unit_B)).sum((1, 2, 3))
        return x_BCHW + error, bits


"""Preset `paper`: the three networks of Zhao et al., arXiv 1712.05969.

128 channels, 9x9 first and last layers, 3x3 between, ReLU after all but the last layer, zero padding, no skip
connections, no normalisation, one luma channel in 0..1 and one quality: the unit quality is not an input of
these networks. At scale 2 the description network has one stride-2 layer and the post-processing network
ends in a transposed 9x9 convolution; at scale 1 both are ordinary convolutions.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from vcframe.networks.layers import pad_to_multiple
from vcframe.networks.tiles import PictureNetwork, Tiling, reach

WIDTH = 128
TILE_SIDE = 512
"""Pixels of the original picture: larger ones are run in tiles, whose feature maps take 150 MB each."""


def _trunk(num_middle: int, stride: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(1, WIDTH, 9, padding=4), nn.ReLU()]
    for index in range(num_middle):
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, stride if index == 0 else 1, padding=1), nn.ReLU()]
    return layers


class PaperDescription(PictureNetwork):
    """FDNN: 9x9, five 3x3 (the first with stride 2 at scale 2), 9x9; clipped to 0..1."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(*_trunk(5, scale), nn.Conv2d(WIDTH, 1, 9, padding=4))
        self.tiling = Tiling(1, math.ceil(reach(self.layers) / scale), TILE_SIDE // scale)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        """`(B, 1, H, W)` in 0..1 to `(B, 1, ceil(H/scale), ceil(W/scale))` in 0..1, not rounded."""
        out: Tensor = self.layers(pad_to_multiple(x_BCHW, self.scale))
        return out.clamp(0, 1)


class PaperPostProcessing(PictureNetwork):
    """PPNN: 9x9, six 3x3, transposed 9x9 with the stride of the scale.

    The paper's virtual codec network (VCNN) has the same layers: it maps the description before coding
    straight to the post-processed picture, so this class serves as both.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        last: nn.Module = nn.Conv2d(WIDTH, 1, 9, padding=4)
        if scale > 1:
            last = nn.ConvTranspose2d(WIDTH, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
        self.layers = nn.Sequential(*_trunk(6, 1), last)
        self.tiling = Tiling(1, reach(self.layers), TILE_SIDE // scale)

    def forward(self, decoded_BCHW: Tensor, unit_B: Tensor, size: tuple[int, int]) -> Tensor:
        """Decoded description to `(B, 1, *size)`, nominally in 0..1 but not clipped."""
        out: Tensor = self.layers(decoded_BCHW)
        return out[..., : size[0], : size[1]]

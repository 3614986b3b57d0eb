"""Preset `small`: compact colour networks, one set for the whole quality sweep.

Every network predicts a residual on top of a classical operation and starts at exactly that operation:
training begins at the plain codec and can only add. Trunks run on pixel-unshuffled input, where dense
3x3 convolutions see far and cost little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcframe.networks.adaptation import Adaptation, Moments
from vcframe.networks.layers import (
    QualityTable,
    Trunk,
    downsample,
    pad_to_multiple,
    to_luma,
    upsample,
)
from vcframe.networks.tiles import Area, PictureNetwork, Tiling, reach

POST_GRID = 2
"""The post-processing trunk runs at 1/POST_GRID of the original size, or at the coded size if it is less."""
TILE_SIDE = 768
"""Pixels of the original picture: larger ones are run in tiles, whose feature maps take 24 MB each."""


class SmallDescription(PictureNetwork):
    """Plain resampling plus a residual.

    At full size the input is unshuffled by the codec's block grid, so that each position of the trunk is
    one block and the network knows the block phase.
    """

    def __init__(self, channels: int, scale: int, block: int) -> None:
        super().__init__()
        self.scale = scale
        self.grid = max(block, 4) if scale == 1 else 2 * scale
        out_grid = self.grid // scale
        # On blocks of 8x8 most weights are in the first and last layer: fewer channels keep the file small.
        width = 32 if self.grid == 8 else 48
        self.trunk = Trunk(channels * self.grid**2, width, 2, channels * out_grid**2)
        self.shuffle = nn.PixelShuffle(out_grid)
        self.tiling = _tiling(self.trunk, out_grid, scale)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        """`(B, C, H, W)` in 0..1 to `(B, C, ceil(H/scale), ceil(W/scale))` in 0..1, not rounded."""
        plain = downsample(x_BCHW, self.scale)
        blocks = F.pixel_unshuffle(pad_to_multiple(x_BCHW, self.grid), self.grid)
        residual: Tensor = self.shuffle(self.trunk(blocks - 0.5, unit_B))
        return (plain + residual[..., : plain.shape[-2], : plain.shape[-1]]).clamp(0, 1)

    @property
    def adds_nothing(self) -> bool:
        """Whether it is plain resampling still, as it was made."""
        return not any(bool(part.any()) for part in self.trunk.tail.parameters())


class SmallPostProcessing(PictureNetwork):
    """Bicubic enlargement of the decoded picture plus a residual.

    The residual is scaled by about what the plain error is at that quality (root mean square, learned from
    there): the trunk then works in the same range at every quality. Unscaled, the gradients of the high
    qualities, whose errors are small, drown those of the low ones (measured on HEVC: half the gain).
    """

    worst_error = 0.1
    best_error: ClassVar = {1: 0.005, 2: 0.03, 4: 0.05}
    """At less than full size the best quality still lacks the detail."""
    shapes: ClassVar = {1: (32, 5), 2: (32, 5), 4: (48, 5)}
    """Channels and blocks of a fresh trunk. Multiples of 16 fill a processor's vectors: 40 channels run at
    three quarters of the speed. Deep and narrow beats wide and shallow at equal cost."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        self.cell = max(POST_GRID, scale)
        self.grid = self.cell // scale
        self._make_trunk(*self.shapes[scale])
        self.shuffle = nn.PixelShuffle(self.cell)
        errors = math.log(self.worst_error), math.log(self.best_error[scale])
        self.log_error = QualityTable(channels * self.cell**2, *errors)
        self.adaptation: Adaptation | None = None

    def _make_trunk(self, width: int, num_blocks: int) -> None:
        self.trunk = Trunk(self.channels * self.grid**2, width, num_blocks, self.channels * self.cell**2)
        self.tiling = _tiling(self.trunk, self.grid, self.scale)

    def make_adaptation(self) -> Adaptation:
        """A fresh adaptation in the place of any other."""
        self.adaptation = Adaptation(self.trunk.tail.in_channels, self.trunk.tail.out_channels)
        return self.adaptation.to(self.trunk.tail.weight.device)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights; the network has their number of channels and blocks afterwards, and an adaptation if
        they have one."""
        if (shape := _shape_of(state_dict)) not in (None, self.trunk.shape):
            with self.trunk.tail.weight.device:
                self._make_trunk(*shape)
        self.adaptation = None
        if any(name.startswith("adaptation.") for name in state_dict):
            self.make_adaptation()
        return super().load_state_dict(state_dict, strict, assign)

    def forward(
        self,
        decoded_BCHW: Tensor,
        unit_B: Tensor,
        size: tuple[int, int],
        coefficients_BK: Tensor | None = None,
    ) -> Tensor:
        """Decoded description to `(B, C, *size)`, nominally in 0..1 but not clipped.

        With the coefficients of each picture, corrected by the adaptation that there must be. In inference
        mode the blocks are computed in bfloat16 where that is fast: a sample may differ by a grey level.
        """
        features = self.features(decoded_BCHW, unit_B, fast=torch.is_inference_mode_enabled())
        return self.finish(features, decoded_BCHW, unit_B, size, coefficients_BK)

    def features(self, decoded_BCHW: Tensor, unit_B: Tensor, fast: bool = False) -> Tensor:
        """What the last layers are given; an encoder takes no bfloat16, so that its files are the same."""
        blocks = F.pixel_unshuffle(pad_to_multiple(decoded_BCHW, self.grid), self.grid)
        return self.trunk.features(blocks - 0.5, unit_B, fast)

    def finish(
        self,
        features: Tensor,
        decoded_BCHW: Tensor,
        unit_B: Tensor,
        size: tuple[int, int],
        coefficients_BK: Tensor | None = None,
    ) -> Tensor:
        """The picture from the features of the decoded description."""
        out = self.trunk.tail(features)
        if coefficients_BK is not None:
            assert self.adaptation is not None
            out = out + self.adaptation(features, coefficients_BK)
        residual: Tensor = self.shuffle(out * self.log_error(unit_B).exp())
        plain = upsample(decoded_BCHW, self.scale)
        return plain[..., : size[0], : size[1]] + residual[..., : size[0], : size[1]]

    def moments(
        self, features: Tensor, decoded_BCHW: Tensor, unit_B: Tensor, original_BCHW: Tensor, area: Area
    ) -> list[Moments]:
        """Of every picture: what its coefficients follow from, over an area of the decoded description.

        A grey original (one channel) is what a colour network is to restore as luma. A last row or column of
        the original that does not fill a cell of the trunk's grid is left out.
        """
        assert self.adaptation is not None
        height, width = original_BCHW.shape[-2:]
        restored = self.finish(features, decoded_BCHW, unit_B, (height, width))
        # One row for each output of the last layer: what it adds to the samples of a cell.
        outputs = torch.diag_embed(self.log_error(unit_B).exp().flatten(1))
        mixing = self.shuffle(outputs.flatten(0, 1)[..., None, None])
        if original_BCHW.shape[1] == 1:
            restored, mixing = to_luma(restored), to_luma(mixing)
        mixing = mixing.reshape(len(unit_B), outputs.shape[1], -1).mT
        rows, columns = (slice(0, side // self.cell * self.cell) for side in (height, width))
        errors = (original_BCHW - restored, original_BCHW - restored.clamp(0, 1))
        cells = [F.pixel_unshuffle(error[..., rows, columns], self.cell) for error in errors]
        height, width = cells[0].shape[-2:]
        rows, columns = (slice(part.start // self.grid, part.stop // self.grid) for part in area)
        hidden = self.adaptation.features(features)[..., :height, :width]
        hidden, error, clipped = (part[..., rows, columns] for part in (hidden, *cells))
        return [Moments.measure(*picture) for picture in zip(hidden, error, clipped, mixing, strict=True)]


def _shape_of(state_dict: Mapping[str, Any]) -> tuple[int, int] | None:
    """Channels and blocks of the trunk with these weights; None where they are of something else."""
    head = state_dict.get("trunk.head.weight")
    if head is None:
        return None
    return len(head), sum(name.endswith(".conv1.weight") for name in state_dict)


def _tiling(trunk: Trunk, grid: int, scale: int) -> Tiling:
    """The trunk sees farther than the bicubic filters beside it, which reach 2 coded pixels."""
    return Tiling(grid, grid * reach(trunk.modules()), TILE_SIDE // scale)

"""Building blocks shared by the presets, and the counting of their cost."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcframe.networks.precision import autocast
from vcframe.networks.tiles import PictureNetwork, Tiling

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Luma and colour differences of ITU-R BT.601, full range, which most picture codecs work in."""

COMPUTED = torch.device("cpu")
"""Where networks compute what they begin with, even if they are built without memory, on `meta`: arithmetic
there imports half of PyTorch's compiler, two seconds."""

PLAIN_REACH = 4
"""Pixels of the smaller picture that plain resampling sees to each side, at least."""
PLAIN_TILE_SIDE = 2048


def to_luma(x_BCHW: Tensor) -> Tensor:
    """`(B, 1, H, W)`: luma of RGB; of grey, itself."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    return torch.einsum("c,bchw->bhw", x_BCHW.new_tensor(YCBCR[0]), x_BCHW)[:, None]


class QualityTable(nn.Module):
    """One value per channel as a piecewise linear function of the unit quality.

    Starts as the straight line from `worst` to `best`. Adam moves every parameter by about the learning rate
    in a step, so `speed` sets how fast the values move.
    """

    num_knots = 9
    power = 1.0
    """Knots are evenly spaced over this power of the unit quality."""

    def __init__(self, channels: int, worst: float, best: float, speed: float = 1.0) -> None:
        super().__init__()
        with COMPUTED:
            line = torch.linspace(worst, best, self.num_knots) / speed
        self.table = nn.Parameter(line[:, None].repeat(1, channels))
        self.speed = speed

    def forward(self, unit_B: Tensor) -> Tensor:
        """`(B,)` to `(B, channels, 1, 1)`."""
        knots = torch.arange(self.num_knots, device=unit_B.device, dtype=unit_B.dtype)
        place_B = unit_B.clamp(min=0) ** self.power * (self.num_knots - 1)
        weights_BK = (1 - (place_B[:, None] - knots).abs()).clamp(min=0)
        value: Tensor = self.speed * (weights_BK @ self.table)
        return value[:, :, None, None]


class FineQualityTable(QualityTable):
    """More knots, and most of them at low qualities.

    There a step of JPEG's quality changes most: between 1 and 13 of 1 to 95, one piece of a table of 9 knots,
    the quantisation steps fall to a thirteenth.
    """

    num_knots = 17
    power = 0.5

    @classmethod
    def unit(cls, knot: int) -> float:
        """The unit quality of a knot."""
        return float((knot / (cls.num_knots - 1)) ** (1 / cls.power))


class QualityGain(nn.Module):
    """Per-channel gains from the unit quality, all ones at the start: one network serves the whole sweep."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = QualityTable(channels, 1.0, 1.0)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        gain: Tensor = self.gain(unit_B)
        return x_BCHW * gain.to(x_BCHW.dtype)

    def after(self, layer: nn.Conv2d, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        """ReLU of the layer's output with the gains.

        In inference mode those of a single quality go into the weights: a pass over the features less.
        """
        if len(unit_B) > 1 or not torch.is_inference_mode_enabled():
            return F.relu_(self(layer(x_BCHW), unit_B))
        gain_C111 = self.gain(unit_B).view(-1, 1, 1, 1)
        assert layer.bias is not None
        weights, biases = layer.weight * gain_C111, layer.bias * gain_C111.flatten()
        return F.relu_(F.conv2d(x_BCHW, weights, biases, padding=layer.padding))


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions around a ReLU; the quality gain acts on the hidden channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = QualityGain(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        # A small second layer keeps the trunk close to the identity when training begins (Zhang et al.,
        # "Fixup initialization", 2019), which allows a large learning rate without batch normalisation.
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        residual: Tensor = self.conv2(self.gain.after(self.conv1, x_BCHW, unit_B))
        return residual.add_(x_BCHW)


class Trunk(nn.Module):
    """Convolution in, residual blocks, convolution out; the last layer starts at zero."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int, out_channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.gain = QualityGain(channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(num_blocks))
        self.tail = nn.Conv2d(channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # a convolution with bias always has one

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and blocks."""
        return self.head.out_channels, len(self.blocks)

    def features(self, x_BCHW: Tensor, unit_B: Tensor, fast: bool = False) -> Tensor:
        """What the last layer is given.

        If `fast`, the blocks run in bfloat16 where that pays. First and last layer, which see pictures, do
        not: with them in it too, one sample in 10,000 differs by 2 grey levels, without by 1 at most.
        """
        x_BCHW = self.gain.after(self.head, x_BCHW, unit_B)
        with autocast(x_BCHW.device) if fast else contextlib.nullcontext(x_BCHW.dtype) as dtype:
            inner = x_BCHW.to(dtype)
            for block in self.blocks:
                inner = block(inner, unit_B)
        return inner.to(x_BCHW.dtype)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        out: Tensor = self.tail(self.features(x_BCHW, unit_B))
        return out


def pad_to_multiple(x_BCHW: Tensor, multiple: int) -> Tensor:
    """Replicate the bottom and right edges until both sides are multiples of `multiple`."""
    bottom, right = -x_BCHW.shape[-2] % multiple, -x_BCHW.shape[-1] % multiple
    return F.pad(x_BCHW, (0, right, 0, bottom), mode="replicate") if bottom or right else x_BCHW


def downsample(x_BCHW: Tensor, scale: int) -> Tensor:
    """Plain antialiased bicubic reduction; sides become ceil(side / scale). Identity at scale 1."""
    if scale == 1:
        return x_BCHW
    padded = pad_to_multiple(x_BCHW, scale)
    height, width = padded.shape[-2] // scale, padded.shape[-1] // scale
    return F.interpolate(padded, size=(height, width), mode="bicubic", antialias=True, align_corners=False)


def upsample(x_BCHW: Tensor, scale: int) -> Tensor:
    """Plain bicubic enlargement by `scale`. Identity at scale 1."""
    if scale == 1:
        return x_BCHW
    return F.interpolate(x_BCHW, scale_factor=scale, mode="bicubic", align_corners=False)


class PlainDescription(PictureNetwork):
    """Plain resampling in the place of a description network."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.tiling = Tiling(1, PLAIN_REACH, PLAIN_TILE_SIDE // scale)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> Tensor:
        """`(B, C, H, W)` in 0..1 to `(B, C, ceil(H/scale), ceil(W/scale))` in 0..1, not rounded."""
        return downsample(x_BCHW, self.scale).clamp(0, 1)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, *inputs: object) -> int:
    """Multiply-accumulates of every convolution in one forward pass (resampling and gains left out)."""
    total = 0

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
        # A transposed convolution spends its kernel once per INPUT position.
        positions = args[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += layer.weight.numel() * positions.shape[-1] * positions.shape[-2] * positions.shape[0]

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return total

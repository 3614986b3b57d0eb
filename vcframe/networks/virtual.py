"""The virtual codec of preset `small`: a differentiable stand-in for a transform codec, learned."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcframe.networks.layers import COMPUTED, YCBCR, FineQualityTable, ResidualBlock, pad_to_multiple


class SmallVirtualCodec(nn.Module):
    """The codec's differentiable stand-in: soft dead zones over 8x8 cosine coefficients, moved by a network.

    What every transform codec does at low rate is set small coefficients to zero, of luma and of two colour
    differences, and most keep the latter at half size only. So luma and halved colour go through a `DeadZone`
    each, with thresholds that a network shifts from block to block; of the colour detail in between a share
    is kept. The network also adds what is not shrinkage (prediction, filters) and corrects the bits.
    """

    grid = 8
    width = 64
    num_blocks = 2
    colour: Tensor
    basis: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        colour = torch.tensor(YCBCR if channels == 3 else ((1.0,),))
        self.register_buffer("colour", colour[:, :, None, None], persistent=False)
        self.register_buffer("basis", cosine_basis(self.grid)[:, :, None, None], persistent=False)
        luma, chroma = self.grid**2, (channels - 1) * self.grid**2
        self.head = nn.Conv2d(2 * luma, self.width, 1)
        self.head_quality = FineQualityTable(self.width, 0.0, 0.0)
        self.blocks = nn.ModuleList(ResidualBlock(self.width) for _ in range(self.num_blocks))
        self.tail = _zero_convolution(self.width, 2 * luma + 2)
        self.dead_zone = DeadZone(luma)
        self.bits_per_block = FineQualityTable(1, 0.0, 0.0, speed=5.0)
        # What a file's tables cost beyond those of a flat picture, logarithm.
        self.bits_per_picture = FineQualityTable(1, 5.0, 5.0, speed=5.0)
        if chroma:
            self.chroma_head = nn.Conv2d(2 * chroma, self.width, 1)
            self.chroma_tail = _zero_convolution(self.width, 2 * chroma)
            self.chroma_dead_zone = DeadZone(chroma)
            self.chroma_detail = FineQualityTable(channels - 1, -2.0, -2.0, speed=5.0)

    def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
        """Description `(B, C, h, w)` in 0..1 to the decoded picture, same shape, and the bits, `(B,)`."""
        height, width = x_BCHW.shape[-2:]
        planes = self._to_planes(x_BCHW)
        luma, chroma, half = self._transformed(planes)
        excess = self.dead_zone.excess(luma, unit_B)
        hidden = self.head(torch.cat([4 * luma, excess], 1)) + self.head_quality(unit_B)
        if self.channels > 1:
            chroma_excess = self.chroma_dead_zone.excess(chroma, unit_B)
            both = self.chroma_head(torch.cat([4 * chroma, chroma_excess], 1))
            hidden = hidden + F.interpolate(both, scale_factor=2)
        for block in self.blocks:
            hidden = block(hidden, unit_B)
        hidden = F.relu(hidden)
        moved, corrections = self.tail(hidden).tensor_split([2 * luma.shape[1]], 1)
        kept, bits = self.dead_zone(luma, excess, moved, unit_B)
        bits = bits * corrections[:, :1].exp()
        bits = bits + F.softplus(self.bits_per_block(unit_B) + corrections[:, 1:])
        total: Tensor = bits.sum((1, 2, 3)) + self.bits_per_picture(unit_B).exp().flatten()
        decoded = self._planes(kept)
        if self.channels > 1:
            moved = self.chroma_tail(F.avg_pool2d(hidden, 2))
            kept, bits = self.chroma_dead_zone(chroma, chroma_excess, moved, unit_B)
            total = total + bits.sum((1, 2, 3))
            detail = torch.sigmoid(self.chroma_detail(unit_B)) * (planes[:, 1:] - _doubled(half))
            decoded = torch.cat([decoded, _doubled(self._planes(kept)) + detail], 1)
        inverse = self.colour[:, :, 0, 0].inverse()[:, :, None, None]
        error = F.conv2d(decoded - planes, inverse)
        return x_BCHW + error[..., :height, :width], total

    @torch.no_grad()
    def calibrate(self, knot: int, x_BCHW: Tensor, decoded_BCHW: Tensor) -> None:
        """Find the quantisation steps at the quality of a knot of `FineQualityTable` from coded pictures.

        A search, because rounding errors have no gradient that leads to the step from afar.
        """
        given = self._transformed(self._to_planes(x_BCHW))
        found = self._transformed(self._to_planes(decoded_BCHW))
        self.dead_zone.calibrate(knot, given[0], found[0])
        if self.channels > 1:
            self.chroma_dead_zone.calibrate(knot, given[1], found[1])

    def _to_planes(self, x_BCHW: Tensor) -> Tensor:
        """Luma and colour differences about 0, filled up to whole blocks of halved colour."""
        return F.conv2d(pad_to_multiple(x_BCHW - 0.5, 2 * self.grid), self.colour)

    def _transformed(self, planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of luma and of halved colour, and the latter itself; empty where there is none."""
        if self.channels == 1:
            return self._coefficients(planes), planes[:, 1:], planes[:, 1:]
        half = F.avg_pool2d(planes[:, 1:], 2)
        chroma = self._coefficients(half)
        return self._coefficients(planes[:, :1]), chroma, half

    def _coefficients(self, planes_BCHW: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, C * 64, h / 8, w / 8)`."""
        num = planes_BCHW.shape[1]
        blocks = F.pixel_unshuffle(planes_BCHW, self.grid)
        return F.conv2d(blocks, self.basis.repeat(num, 1, 1, 1), groups=num)

    def _planes(self, coefficients_BCHW: Tensor) -> Tensor:
        """The inverse of `_coefficients`."""
        num = coefficients_BCHW.shape[1] // self.grid**2
        inverse = self.basis.transpose(0, 1).repeat(num, 1, 1, 1)
        return F.pixel_shuffle(F.conv2d(coefficients_BCHW, inverse, groups=num), self.grid)


class DeadZone(nn.Module):
    """Keeps a coefficient the more, the more it exceeds the threshold of its quality; counts bits by that.

    Of what is kept, a share is rounded to whole steps: all of it where the codec's transform is this one,
    hardly anything where blocks are predicted first. Rounding has the gradient of the identity.
    """

    steps = torch.logspace(-0.5, 2.8, 500)
    """Those that `calibrate` tries, in grey levels."""
    num_judged = 500
    """Blocks that they are judged by, evenly spread."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # Logarithm of the magnitude, in grey levels, at which half of a coefficient is kept: from about 50
        # levels at the worst quality to under one at the best.
        self.threshold = FineQualityTable(size, 4.0, 0.0, speed=5.0)
        # Logarithm of the quantisation step in grey levels, which is found and not learned, and how much of
        # what is kept is rounded to it: nothing before it is found.
        self.step = FineQualityTable(size, 5.0, 1.0).requires_grad_(False)
        self.rounded = FineQualityTable(size, -6.0, -6.0)
        self.sharpness = nn.Parameter(torch.full((size, 1, 1), 3.0))
        self.bits_per_kept = FineQualityTable(size, 2.0, 2.0, speed=5.0)
        self.bits_per_log = FineQualityTable(size, 1.0, 1.0, speed=5.0)

    def excess(self, coefficients: Tensor, unit_B: Tensor) -> Tensor:
        """Logarithm of the magnitude over the threshold.

        It levels off at a tenth of the threshold: a cusp at zero would give what lies deep in the dead zone
        the steepest slopes of all, where the codec has none (measured on JPEG: 50 times the real ones).
        """
        ratio = 255 * coefficients * (-self.threshold(unit_B)).exp()
        excess: Tensor = 0.5 * (ratio.square() + 0.01).log()
        return excess

    def forward(
        self, coefficients: Tensor, excess: Tensor, moved: Tensor, unit_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coefficients, their `excess` and, twice as many channels, shifts of it and what is added.

        Returns what is decoded, and the bits of each block, one channel.
        """
        shift, added = moved.chunk(2, 1)
        excess = excess - shift
        share = torch.sigmoid(self.sharpness * excess)
        bits_per_log = F.softplus(self.bits_per_log(unit_B))
        bits = F.softplus(self.bits_per_kept(unit_B)) + bits_per_log * F.softplus(excess, beta=2)
        kept = share * (coefficients + self._rounding(coefficients, unit_B))
        return kept + 0.1 * added, (share * bits).sum(1, keepdim=True)

    def _rounding(self, coefficients: Tensor, unit_B: Tensor) -> Tensor:
        """What rounding to whole steps adds to coefficients beyond the threshold, as far as it is known.

        Those within it are the share's to judge: rounded to zero, they would leave it nothing to learn from.
        """
        step = self.step(unit_B).exp() / 255
        coefficients = coefficients.detach()
        whole = (coefficients / step).round()
        added: Tensor = (step * whole - coefficients) * (whole != 0)
        return torch.sigmoid(self.rounded(unit_B)) * added

    def calibrate(self, knot: int, given: Tensor, found: Tensor) -> None:
        """Set steps and rounded shares at a knot, from coefficients before and after the codec."""
        size, apart = given.shape[1], max(given[:, 0].numel() // self.num_judged, 1)
        given, found = (255 * part.transpose(0, 1).reshape(size, -1)[:, ::apart] for part in (given, found))
        for i in range(size):
            x, y = given[i], found[i]
            whole = (x / self.steps[:, None]).round()
            errors = (self.steps[:, None] * whole - y).square().sum(1)
            best = int(errors.argmin())
            kept = whole[best] != 0
            left = (self.steps[best] * whole[best] - y)[kept].square().sum()
            known = 1 - float(left / (x - y)[kept].square().sum().clamp(min=1e-3))
            self.step.table[knot, i] = self.steps[best].log()
            self.rounded.table[knot, i] = math.log(max(known, 0.01) / max(1 - known, 0.01))


def _doubled(x_BCHW: Tensor) -> Tensor:
    """Enlarged with weights of 3/4 and 1/4, as most decoders enlarge colour."""
    return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)


def _zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # a convolution with bias always has one
    return layer


def cosine_basis(grid: int) -> Tensor:
    """Orthonormal cosine transform over rows and columns of an unshuffled block: `(g*g, g*g)`."""
    with COMPUTED:
        order, place = torch.arange(grid)[:, None], torch.arange(grid)[None, :]
        rows: Tensor = torch.cos(torch.pi * (2 * place + 1) * order / (2 * grid)) * (2 / grid) ** 0.5
        rows[0] /= 2**0.5
        basis: Tensor = torch.kron(rows, rows)
    return basis

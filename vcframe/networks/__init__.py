"""Description, post-processing and virtual codec networks, and the presets that put them together.

All description networks map `(x_BCHW, unit_B)` to the description, all post-processing networks map
`(decoded_BCHW, unit_B, (H, W))` to the restored picture. Pictures are float32 in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vcframe.networks.layers import PlainDescription, count_macs, count_parameters, downsample, upsample
from vcframe.networks.paper import PaperDescription, PaperPostProcessing
from vcframe.networks.small import SmallDescription, SmallPostProcessing
from vcframe.networks.tiles import PictureNetwork, scaled
from vcframe.networks.virtual import SmallVirtualCodec

Preset = Literal["small", "paper"]
PRESETS: tuple[Preset, ...] = ("small", "paper")
SCALES = (1, 2, 4)
"""Sides of the original over sides of what is coded."""

__all__ = [
    "PRESETS",
    "SCALES",
    "NetworkCost",
    "Networks",
    "PlainDescription",
    "Preset",
    "build_networks",
    "build_virtual_codec",
    "count_macs",
    "count_parameters",
    "downsample",
    "preset_costs",
    "round_to_8_bit",
    "scaled",
    "scales_of",
    "upsample",
    "without_idle",
]


@dataclass(frozen=True)
class Networks:
    """The trainable parts of one system; the virtual codec is needed in training only."""

    description: PictureNetwork
    post: PictureNetwork
    virtual: nn.Module
    channels: int


def build_networks(preset: Preset, scale: int, block: int, channels: int = 3) -> Networks:
    """Freshly initialised networks.

    `block` is the codec's block grid (`Traits.block`); `paper` is luma only. The virtual codec of `small`
    maps `(x, unit)` to `(decoded, bits)`; the one of `paper` maps the description to the restored picture.
    """
    if preset == "paper":
        return Networks(PaperDescription(scale), PaperPostProcessing(scale), PaperPostProcessing(scale), 1)
    return Networks(
        SmallDescription(channels, scale, block),
        SmallPostProcessing(channels, scale),
        build_virtual_codec(channels),
        channels,
    )


def without_idle(networks: Networks) -> Networks:
    """The same system; a description network that adds nothing is plain resampling, which has no weights."""
    description = networks.description
    if isinstance(description, SmallDescription) and description.adds_nothing:
        return replace(networks, description=PlainDescription(description.scale))
    return networks


def scales_of(preset: Preset) -> tuple[int, ...]:
    """The scales that a preset has networks for."""
    return SCALES if preset == "small" else SCALES[:2]


def build_virtual_codec(channels: int = 3) -> nn.Module:
    """A fresh virtual codec `(x_BCHW, unit_B) -> (decoded_BCHW, bits_B)` for any codec."""
    return SmallVirtualCodec(channels)


def round_to_8_bit(x_BCHW: Tensor) -> Tensor:
    """Clip and round to the 256 levels of a file; the gradient passes straight through the rounding."""
    clipped = x_BCHW.clamp(0, 1)
    return clipped + ((clipped * 255).round() / 255 - clipped).detach()


@dataclass(frozen=True)
class NetworkCost:
    """What one network costs; multiply-accumulates are per pixel of the original picture."""

    preset: Preset
    scale: int
    role: Literal["description", "post-processing", "virtual codec"]
    num_parameters: int
    macs_per_pixel: float


def preset_costs(block: int = 8) -> list[NetworkCost]:
    """Counted cost of every network of every preset and scale, on a 128x128 picture."""
    side, costs = 128, []
    # On the meta device layers report their shapes and compute nothing.
    with torch.device("meta"):
        unit_B = torch.tensor([0.5])
        for preset in PRESETS:
            for scale in scales_of(preset):
                networks = build_networks(preset, scale, block)
                full = torch.zeros(1, networks.channels, side, side)
                coded = downsample(full, scale)
                size: tuple[object, ...] = ((side, side),)
                virtual_args = size if preset == "paper" else ()
                for role, network, args in (
                    ("description", networks.description, (full, unit_B)),
                    ("post-processing", networks.post, (coded, unit_B, *size)),
                    ("virtual codec", networks.virtual, (coded, unit_B, *virtual_args)),
                ):
                    macs = count_macs(network, *args) / side**2
                    costs.append(NetworkCost(preset, scale, role, count_parameters(network), macs))  # type: ignore[arg-type]
    return costs

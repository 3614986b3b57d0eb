"""Large pictures in tiles: no seam, in phase with grids and strides, and memory that does not grow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from vcframe import Image
from vcframe.images import luma
from vcframe.model import Card, Model
from vcframe.networks import Preset, build_networks
from vcframe.networks.tiles import PictureNetwork, Tiling

SMALL = [("small", 1, 4), ("small", 1, 8), ("small", 1, 12), ("small", 2, 8)]
KINDS = [*SMALL, ("paper", 1, 8), ("paper", 2, 8)]
"""Preset, scale and the codec's block grid."""


def random_model(preset: Preset, scale: int, block: int) -> Model:
    """Luma; every layer is random, the last ones too, and loud enough that each shows in the result."""
    torch.manual_seed(3)
    networks = build_networks(preset, scale, block, channels=1)
    with torch.no_grad():
        for network in (networks.description, networks.post):
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight.normal_(std=1.2 / math.sqrt(layer.weight[0].numel()))
        if preset == "small":
            networks.post.log_error.table.fill_(math.log(0.2))  # type: ignore[union-attr]
        else:  # no skip connection holds the level
            for network in (networks.description, networks.post):
                network.layers[-1].bias.fill_(0.5)  # type: ignore[index,union-attr]
    card = Card(
        codec={"codec": "any"},
        codec_version="any",
        preset=preset,
        block=block,
        channels=1,
        training={scale: {}},
        vcframe_version="any",
    )
    return Model(card, {scale: networks})


def with_tiling(model: Model, scale: int, **changes: int) -> None:
    for network in (model.networks[scale].description, model.networks[scale].post):
        network.tiling = replace(network.tiling, **changes)


def differences(a: Image, b: Image) -> np.ndarray:
    return np.abs(a.astype(int) - b)


@pytest.mark.parametrize(("preset", "scale", "block"), KINDS)
def test_tiles_join_without_a_seam(preset: Preset, scale: int, block: int) -> None:
    height, width = (211, 157) if preset == "small" else (67, 93)
    picture = luma(skimage.data.astronaut()[:height, 100 : 100 + width].copy())
    model = random_model(preset, scale, block)

    decoded = picture[::scale, ::scale].copy()

    def both() -> tuple[Image, Image]:
        return model.describe(picture, 0.3, scale), model.restore(decoded, 0.3, scale, (height, width))

    whole = both()
    assert all(image.std() > 10 for image in whole)
    with_tiling(model, scale, side=48 // scale)
    for tiled, reference in zip(both(), whole, strict=True):
        # The sums of a convolution are not ordered the same way at every size: a rounding may tip over.
        assert differences(tiled, reference).max() <= 1
        assert (tiled != reference).mean() < 1e-3
    with_tiling(model, scale, reach=0)
    for seamed, reference in zip(both(), whole, strict=True):
        assert differences(seamed, reference).max() > 10


def seen_from(network: PictureNetwork, inputs: tuple[object, ...], cell: tuple[slice, slice]) -> Tensor:
    """Where the input has any influence on an area of the output."""
    x_BCHW = torch.rand(*inputs[0], requires_grad=True)  # type: ignore[misc]
    out: Tensor = network(x_BCHW, *inputs[1:])
    out[..., cell[0], cell[1]].sum().backward()  # type: ignore[no-untyped-call]
    assert x_BCHW.grad is not None
    return x_BCHW.grad[0, 0] != 0


@pytest.mark.parametrize("role", ["description", "post"])
@pytest.mark.parametrize(("preset", "scale", "block"), KINDS)
def test_the_halo_is_what_the_network_sees(preset: Preset, scale: int, block: int, role: str) -> None:
    """The gradient of one cell of the grid, in the middle of noise, ends where the halo ends."""
    model = random_model(preset, scale, block)
    network: PictureNetwork = getattr(model.networks[scale], role)
    tiling, is_post = network.tiling, role == "post"
    start = tiling.reach + tiling.grid
    coded_side = start + tiling.grid + tiling.reach + tiling.grid
    in_scale, out_scale = (1, scale) if is_post else (scale, 1)
    size = ((coded_side * scale, coded_side * scale),) if is_post else ()
    cell = slice(start * out_scale, (start + tiling.grid) * out_scale)
    shape = (1, 1, coded_side * in_scale, coded_side * in_scale)
    seen = seen_from(network, (shape, torch.tensor([0.3]), *size), (cell, cell))
    for axis in (0, 1):
        places = torch.nonzero(seen.any(1 - axis))[:, 0]
        first, last = int(places[0]) // in_scale, int(places[-1]) // in_scale
        assert first >= start - tiling.reach
        assert last < start + tiling.grid + tiling.reach
        assert max(start - first, last - (start + tiling.grid - 1)) > tiling.reach - tiling.grid


@pytest.mark.parametrize("grid", [1, 2, 8, 12])
@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 200, 1000])
def test_tiles_cover_the_picture_once_and_start_on_the_grid(grid: int, length: int) -> None:
    covered = np.zeros((length, 40), int)
    for tile in Tiling(grid, 2 * grid, side=64).tiles(length, 40):
        covered[tile.inner] += 1
        rows, _ = tile.outer
        assert rows.start % grid == 0
        assert rows.stop % grid == 0 or rows.stop == length
        assert rows.stop - rows.start <= 64 + grid + 2 * 2 * grid
        assert np.array_equal(covered[tile.outer][tile.inside()], covered[tile.inner])
    assert (covered == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_memory_is_bounded_and_small_pictures_are_one_tile(scale: int) -> None:
    """Counted in values, at most one halo over what the largest picture of one tile takes."""
    model = random_model("small", scale, 8)
    networks = model.networks[scale].description, model.networks[scale].post
    inputs: list[tuple[int, ...]] = []
    largest = {768: 0, 5300: 0}

    def watch(height: int) -> None:
        def note(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            largest[height] = max(largest[height], out.numel())
            if layer in networks:
                inputs.append(tuple(args[0].shape))

        handles = [layer.register_forward_hook(note) for network in networks for layer in network.modules()]
        picture = np.zeros((height, 16), np.uint8)
        description = model.describe(picture, 0.5, scale)
        assert model.restore(description, 0.5, scale, picture.shape).shape == picture.shape
        for handle in handles:
            handle.remove()

    watch(768)
    assert inputs == [(1, 1, 768, 16), (1, 1, 768 // scale, 16 // scale)]
    watch(5300)
    assert len(inputs) == 2 + 2 * 7
    assert largest[768] < largest[5300] <= largest[768] * (768 + 2 * 48) / 768

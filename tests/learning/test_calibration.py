"""The quantisation steps that a virtual codec is given are those that the codec writes into its files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

from vcframe.images import to_tensor, write_image
from vcframe.learning.calibration import calibrate
from vcframe.learning.coded import CodingRoom
from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import Engine
from vcframe.learning.phases import Workshop
from vcframe.learning.sources import open_files
from vcframe.networks import build_networks
from vcframe.networks.layers import FineQualityTable
from vcframe.networks.virtual import SmallVirtualCodec
from vcframe.registry import Registry

CODEC = Registry.load().codec("jpeg")
PHOTOS = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> SmallVirtualCodec:
    folder: Path = tmp_path_factory.mktemp("photographs")
    for number, photo in enumerate(PHOTOS):
        write_image(folder / f"{number}.png", np.ascontiguousarray(photo))
    config = TrainConfig.checked(
        codec=CODEC.config(), schedule="virtual", steps=5, data=(str(folder),), out=folder / "run"
    )
    networks, room = build_networks("small", 1, 8), CodingRoom(CODEC)
    try:
        calibrate(Workshop(config, Engine("cpu"), room, open_files(config.data), networks))
    finally:
        room.close()
    assert isinstance(networks.virtual, SmallVirtualCodec)
    return networks.virtual


@pytest.mark.parametrize("knot", [3, 6, 10])
def test_steps_are_those_of_the_tables_in_the_file(calibrated: SmallVirtualCodec, knot: int) -> None:
    quality = CODEC.quality_scale.native(FineQualityTable.unit(knot))
    data = CODEC.encode(np.ascontiguousarray(PHOTOS[0]), quality)
    tables = PIL.Image.open(io.BytesIO(data)).quantization  # type: ignore[attr-defined]
    # The lowest frequencies of luma, of which enough is kept at every quality.
    frequencies = [0, 1, 8]
    steps = calibrated.dead_zone.step.table[knot].exp()[frequencies].tolist()
    assert steps == pytest.approx([tables[0][f] for f in frequencies], rel=0.02)


def test_rounding_is_known_where_the_transform_is_the_codecs(calibrated: SmallVirtualCodec) -> None:
    """Nearly all of the error of kept coefficients is foreseen, and a fresh virtual codec foresees none."""
    fresh = build_networks("small", 1, 8).virtual
    assert isinstance(fresh, SmallVirtualCodec)
    knot = 6
    unit = FineQualityTable.unit(knot)
    crop = np.ascontiguousarray(PHOTOS[1][64:256, 64:256])
    decoded = CODEC.roundtrip(crop, CODEC.quality_scale.native(unit))[0]
    left = []
    for virtual in (fresh, calibrated):
        planes, wanted = (virtual._to_planes(to_tensor([p])) for p in (crop, decoded))
        luma, found = virtual._transformed(planes)[0][:, 1:3], virtual._transformed(wanted)[0][:, 1:3]
        zone = virtual.dead_zone
        added = zone._rounding(virtual._transformed(planes)[0], torch.tensor([unit]))[:, 1:3]
        kept = found.abs() > 2 / 255
        left.append(float((luma + added - found)[kept].square().sum() / (luma - found)[kept].square().sum()))
    assert left[0] > 0.9
    assert left[1] < 0.3

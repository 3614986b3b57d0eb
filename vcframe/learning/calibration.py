"""Find the quantisation steps of a codec at the knots of its virtual codec's tables, from coded pictures."""

from __future__ import annotations

import numpy as np

from vcframe.images import to_tensor
from vcframe.learning.phases import Workshop, plain_describe
from vcframe.learning.sources import to_channels
from vcframe.networks.layers import FineQualityTable
from vcframe.networks.virtual import SmallVirtualCodec

NUM_CROPS = 6


def calibrate(shop: Workshop) -> None:
    """Give a fresh virtual codec its quantisation steps; those of another kind learn alone.

    It is where it was made, on the processor: a run places its networks later.
    """
    config, virtual = shop.config, shop.networks.virtual
    if config.schedule not in ("joint", "virtual") or not isinstance(virtual, SmallVirtualCodec):
        return
    side, describe = 192 * config.scale, plain_describe(config.scale)
    rng = np.random.default_rng([config.seed, 6])
    crops = [shop.source.crop(0, side, rng) for _ in range(NUM_CROPS)]
    descriptions = [describe(to_channels(crop, config.channels), 0.0) for crop in crops]
    x_BCHW = to_tensor(descriptions)
    for knot in range(FineQualityTable.num_knots):
        quality = shop.room.codec.quality_scale.native(FineQualityTable.unit(knot))
        coding = [shop.room.threads.submit(shop.room.roundtrip, part, quality) for part in descriptions]
        virtual.calibrate(knot, x_BCHW, to_tensor([future.result().picture for future in coding]))

"""How the golden files were made: `python tests/golden/make.py`, once. It replaces none of them.

The model is no trained one. Of the fresh weights one in sixteen is kept, so that the file packs well, and the
last layers are not zero, so that its networks change every pixel by a few grey levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch

from vcframe import Codec, Image
from vcframe.coder import Way, decompress
from vcframe.images import luma, write_bytes, write_image
from vcframe.model import Card, Model
from vcframe.networks import build_networks
from vcframe.registry import Registry
from vcframe.stream import CONTAINER_EXTENSION, pack, unpack

FOLDER = Path(__file__).parent
SCALE = 2
KEPT = 1 / 16


class Placeless:
    """A codec whose format has no place for a payload."""

    def __init__(self, codec: Codec) -> None:
        self.name = codec.name

    def embed(self, data: bytes, payload: bytes) -> bytes:
        raise NotImplementedError


def golden_model(codec: Codec) -> Model:
    torch.manual_seed(20)
    networks = build_networks("small", SCALE, codec.traits.block)
    with torch.no_grad():
        for network in (networks.description, networks.post):
            network.trunk.tail.weight.normal_(std=0.15)  # type: ignore[union-attr,operator]
            for parameter in network.parameters():
                if parameter.ndim == 4:
                    parameter *= 4 * (torch.rand_like(parameter) < KEPT)
    card = Card(
        codec=codec.config(),
        codec_version=codec.version(),
        preset="small",
        block=codec.traits.block,
        channels=3,
        training={SCALE: {"data": "none: a model for the golden files"}},
        vcframe_version="0.1.0",
    )
    return Model(card, {SCALE: networks})


def adapted_model(codec: Codec) -> Model:
    """The golden model with a random adaptation: the encoder finds what of it suits the picture."""
    model = golden_model(codec)
    adaptation = model.networks[SCALE].post.make_adaptation()  # type: ignore[operator]
    with torch.no_grad():
        adaptation.directions *= 30
        for parameter in adaptation.parameters():
            parameter *= torch.rand_like(parameter) < KEPT
    return model


def adapted() -> None:
    """The file with coefficients, made when they came in."""
    codec = Registry.load().codec("jpeg")
    adapted_model(codec).save(new("adapted.safetensors"))
    model = Model.load(FOLDER / "adapted.safetensors")
    picture = np.ascontiguousarray(skimage.data.chelsea()[104:151, 110:175])
    coded = Way(picture, codec, model, SCALE).compress(40).adapted
    assert coded.payload is not None
    assert coded.payload.coefficients
    keep("adapted.jpg", coded.data, model)


def main() -> None:
    registry = Registry.load()
    model = golden_model(registry.codec("jpeg"))
    model.save(new("model.safetensors"))
    model = Model.load(FOLDER / "model.safetensors")
    photo = skimage.data.chelsea()[104:151, 110:175]  # 47 rows of 65 columns: both sides are odd
    pictures: list[tuple[str, float, Image]] = [
        ("jpeg", 40, luma(np.ascontiguousarray(photo))),
        ("webp", 40, np.ascontiguousarray(photo)),
        ("jpeg2000", 30, np.ascontiguousarray(photo[:46])),
        ("hevc", 34, np.ascontiguousarray(photo[:, :64])),
    ]
    for name, quality, image in pictures:
        codec = registry.codec(name)
        keep(f"{name}{codec.extension}", Way(image, codec, model, SCALE).compress(quality).data, model)
    codec = registry.codec("jpeg")
    file = Way(pictures[1][2], codec, model, SCALE).compress(20).data
    unpacked = unpack(file, [codec])
    assert unpacked is not None
    container = pack(Placeless(codec), unpacked.stream, unpacked.payload)  # type: ignore[arg-type]
    keep(f"container{CONTAINER_EXTENSION}", container, model)


def keep(name: str, data: bytes, model: Model) -> None:
    """The file, its description and what it restores to."""
    registry = Registry.load()
    unpacked = unpack(data, [record.codec() for record in registry.codecs.values()])
    assert unpacked is not None
    stem = name.split(".")[0]
    write_bytes(new(name), data)
    write_image(new(f"{stem}.description.png"), registry.codec(unpacked.codec_name).decode(unpacked.stream))
    write_image(new(f"{stem}.restored.png"), decompress(data, registry, lambda *_: model).image)


def new(name: str) -> Path:
    path = FOLDER / name
    if path.exists():
        raise SystemExit(f"{path} exists: a golden file must decode forever, as it is")
    return path


if __name__ == "__main__":
    if not (FOLDER / "model.safetensors").exists():
        main()
    adapted()

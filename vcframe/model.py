"""A trained model: weights and card; save, load, verify, list, the shipped ones.

A model file is a safetensors file: weights in half precision, the card as JSON in the metadata. Its id is the
first four bytes of the SHA-256 over the weights, so a file restored with another model cannot go unnoticed.
"""

from __future__ import annotations

import functools
import hashlib
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from vcframe.codec import Codec, Image, UsageError, VcframeError
from vcframe.images import as_colour, to_image, to_tensor, write_bytes
from vcframe.networks import (
    SCALES,
    Networks,
    PlainDescription,
    Preset,
    build_networks,
    scaled,
    without_idle,
)
from vcframe.networks.adaptation import Moments, best_quality_level
from vcframe.networks.layers import to_luma
from vcframe.networks.small import SmallPostProcessing
from vcframe.networks.tiles import Area, Tile, samples_of
from vcframe.registry import warn_once
from vcframe.stream import NUM_LEVELS

Scale = Annotated[int, Field(ge=1, le=max(SCALES))]

MODELS_VARIABLE = "VCFRAME_MODELS"
"""Environment variable: a folder with further models, searched after the shipped ones."""


class ModelError(VcframeError):
    """A model file is missing, damaged, of an unknown kind, or does not fit the codec or picture."""


class Card(BaseModel):
    """What a model is and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    codec: dict[str, Any]
    """`Codec.config()` of the codec that the model was trained around."""
    codec_version: str
    preset: Preset
    block: int = Field(ge=1, le=1024)
    """Block grid of the codec (`Traits.block`); it decides the layout of the description network."""
    channels: Literal[1, 3]
    training: dict[Scale, dict[str, Any]]
    """By scale: schedule, data, steps, minutes, seed and the validation figures of the run."""
    vcframe_version: str

    @property
    def codec_name(self) -> str:
        """Name of the codec that the model belongs to."""
        return str(self.codec["codec"])

    @property
    def scales(self) -> list[int]:
        """The scales that the model has networks for: the codec is given 1/scale of the sides."""
        return sorted(self.training)

    @property
    def quality(self) -> float | None:
        """The one quality that a model of schedule `paper` knows; None where it knows all."""
        qualities = [training.get("quality") for training in self.training.values()]
        return None if qualities[0] is None else float(qualities[0])

    @property
    def is_general(self) -> bool:
        """Whether the model takes every picture at every quality."""
        return self.channels == 3 and self.quality is None


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, its card read; `Model.load` reads the weights and verifies them."""

    path: Path
    id: str
    card: Card


class Model:
    """Description and post-processing networks of one codec, for one scale or several, ready for use."""

    def __init__(self, card: Card, networks: Mapping[int, Networks], device: str = "cpu") -> None:
        assert sorted(networks) == card.scales
        self.card = card
        self.networks = dict(networks)
        """By scale."""
        self.device = torch.device(device)
        for system in networks.values():
            for network in (system.description, system.post):
                network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @classmethod
    def joined(cls, models: Sequence[Model]) -> Model:
        """One model with the scales of all; raises `UsageError` where they do not fit together."""
        first = models[0]
        networks: dict[int, Networks] = {}
        training: dict[int, dict[str, Any]] = {}
        for model in models:
            for name in ("codec", "preset", "block", "channels"):
                ours, theirs = getattr(first.card, name), getattr(model.card, name)
                if ours != theirs:
                    raise UsageError(f"models of different {name} cannot be joined: {ours} and {theirs}")
            if twice := sorted(networks.keys() & model.networks.keys()):
                raise UsageError(f"scale {twice[0]} is in two of the models to be joined")
            networks |= {scale: without_idle(system) for scale, system in model.networks.items()}
            training |= model.card.training
        return cls(first.card.model_copy(update={"training": training}), networks, str(first.device))

    @property
    def id(self) -> str:
        """Eight lower-case hexadecimal digits that name these weights."""
        return weights_digest(_weights(self.networks))[:8]

    def describe(self, image: Image, unit: float, scale: int) -> Image:
        """The picture that the codec sees, `ceil(side / scale)` on each side, same kind as `image`.

        Large pictures are run in tiles, so that memory beyond the two pictures is bounded. A colour model
        handles grey pictures as three equal channels; raises `UsageError` when a grey model is given a colour
        picture.
        """
        self._check_kind(image)
        network, unit_B = self.networks[scale].description, self._unit(unit)
        height, width = (-(-side // scale) for side in image.shape[:2])
        description = np.empty((height, width, *image.shape[2:]), np.uint8)
        with torch.inference_mode():
            for tile in network.tiling.tiles(height, width):
                x_BCHW = self._to_tensor(image[scaled(tile.outer, scale)])
                y_BCHW = network(x_BCHW, unit_B)
                description[tile.inner] = self._to_image(y_BCHW, tile.inside(), like=image)
        return description

    def restore(
        self,
        decoded: Image,
        unit: float,
        scale: int,
        size: tuple[int, int],
        coefficients: Sequence[int] = (),
    ) -> Image:
        """The restored picture, `(H, W) = size`, from the decoded description; same kind as `decoded`.

        Large pictures are run in tiles, so that memory beyond the two pictures is bounded. Raises
        `ModelError` for more coefficients than the model has directions.
        """
        self._check_kind(decoded)
        if len(coefficients) > (known := self.num_directions(scale)):
            raise ModelError(
                f"model {self.id} has {known} directions, the file {len(coefficients)} coefficients"
            )
        corrections = (
            [torch.tensor([coefficients], dtype=torch.float32, device=self.device)] if coefficients else []
        )
        height, width = decoded.shape[:2]
        assert (height, width) == tuple(-(-side // scale) for side in size), (decoded.shape, scale, size)
        network, unit_B = self.networks[scale].post, self._unit(unit)
        image = np.empty((*size, *decoded.shape[2:]), np.uint8)
        with torch.inference_mode():
            for tile in network.tiling.tiles(height, width):
                d_BCHW = self._to_tensor(decoded[tile.outer])
                x_BCHW = network(d_BCHW, unit_B, image[scaled(tile.outer, scale)].shape[:2], *corrections)
                image[scaled(tile.inner, scale)] = self._to_image(x_BCHW, tile.inside(scale), like=decoded)
        return image

    def num_directions(self, scale: int) -> int:
        """How many coefficients a picture may have at that scale; 0 for a model without adaptation."""
        adaptation = getattr(self.networks[scale].post, "adaptation", None)
        return adaptation.num_directions if adaptation else 0

    def adapt(
        self, original: Image, decoded: Image, level: int, scale: int, num_bytes: int
    ) -> tuple[int, tuple[int, ...]]:
        """What restores this picture best: a quality level near its own, and coefficients.

        The coefficients are those that pay for themselves in a file of `num_bytes`; the model has an
        adaptation. `original` and `decoded` are of one kind; large pictures are run in tiles, as by
        `restore`. Other quality levels are tried on samples of the picture, and the best is kept where it is
        better on the whole.
        """
        network = self.networks[scale].post
        assert isinstance(network, SmallPostProcessing)
        assert network.adaptation is not None
        directions = network.adaptation.directions
        if min(original.shape[:2]) < network.cell:
            return level, ()
        height, width = decoded.shape[:2]
        samples = samples_of(height, width, network.tiling.grid)

        def log_error(tried: int) -> float:
            moments = self._moments(original, decoded, tried, scale, samples)
            return math.log(moments.least_squared_error(directions))

        fits = []
        for chosen in dict.fromkeys((level, best_quality_level(log_error, level))):
            tiles = network.tiling.tiles(height, width)
            moments = self._moments(original, decoded, chosen, scale, tiles)
            cost, coefficients = moments.cheapest(directions, num_bytes)
            fits.append((cost, chosen, coefficients))
        _, best_level, best_coefficients = min(fits)
        return best_level, best_coefficients

    def _moments(
        self, original: Image, decoded: Image, level: int, scale: int, tiles: Iterable[Tile]
    ) -> Moments:
        """Of those parts of the picture, restored without coefficients."""
        network, unit_B = self.networks[scale].post, self._unit(level / (NUM_LEVELS - 1))
        assert isinstance(network, SmallPostProcessing)
        parts: list[Moments] = []
        with torch.inference_mode():
            for tile in tiles:
                d_BCHW = self._to_tensor(decoded[tile.outer])
                x_BCHW = to_tensor([original[scaled(tile.outer, scale)]]).to(self.device)
                features = network.features(d_BCHW, unit_B)
                parts += network.moments(features, d_BCHW, unit_B, x_BCHW, tile.inside())
        return functools.reduce(operator.add, parts)

    def save(self, path: Path) -> None:
        """Write the model file; the weights are rounded to half precision."""
        weights = _weights(self.networks)
        metadata = {"vcframe_card": self.card.model_dump_json(), "sha256": weights_digest(weights)}
        write_bytes(path, safetensors_bytes(weights, metadata))

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> Model:
        """Read and verify a model file; raises `ModelError`."""
        card, weights = _read(path)
        try:
            # Shapes without memory: a card may claim any block, and is believed once the weights fit.
            with torch.device("meta"):
                networks = {s: build_networks(card.preset, s, card.block, card.channels) for s in card.scales}
            for scale, system in networks.items():
                for role in ("description", "post"):
                    prefix = f"{scale}.{role}."
                    own = {k: v.float() for k, v in weights.items() if k.startswith(prefix)}
                    own = {k.removeprefix(prefix): v for k, v in own.items()}
                    if role == "description" and not own:
                        networks[scale] = replace(system, description=PlainDescription(scale))
                    else:
                        getattr(system, role).load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ModelError(f"{path}: weights do not fit preset {card.preset}") from error
        return cls(card, networks, device)

    def _check_kind(self, image: Image) -> None:
        if self.card.channels == 1 and image.ndim == 3:
            raise UsageError(
                f"model {self.id} codes grey pictures only; convert the picture to grey or use a colour model"
            )

    def _to_tensor(self, image: Image) -> Tensor:
        x_BCHW = to_tensor([as_colour(image) if self.card.channels == 3 else image])
        return x_BCHW.to(self.device, memory_format=torch.channels_last)

    def _to_image(self, x_BCHW: Tensor, area: Area, like: Image) -> Image:
        """The area of the first picture of a batch; grey where `like` is."""
        x_CHW = x_BCHW[0, :, *area]
        return to_image((to_luma(x_CHW[None])[0] if like.ndim == 2 else x_CHW).cpu())

    def _unit(self, unit: float) -> Tensor:
        return torch.tensor([unit], dtype=torch.float32, device=self.device)


def list_models(codec_name: str | None = None, folders: Iterable[Path] = ()) -> list[ModelFile]:
    """Models in the given folders, the shipped ones, and those under `$VCFRAME_MODELS`.

    A file that is no model is warned about on standard error and skipped.
    """
    shipped = Path(str(resources.files("vcframe.models")))
    extra = [Path(os.environ[MODELS_VARIABLE])] if os.environ.get(MODELS_VARIABLE) else []
    found = []
    for folder in (*folders, shipped, *extra):
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with opened(path) as file:
                    card, digest = _read_card(path, file)
            except ModelError as error:
                warn_once(f"skipped {error}")
                continue
            if codec_name in (None, card.codec_name):
                found.append(ModelFile(path, digest[:8], card))
    return found


def find_model(reference: str | None, codec: Codec | None, device: str = "cpu") -> Model:
    """Load a model by path or id; without a reference, the installed model of `codec`.

    A model for every picture and quality is preferred to a grey one and to one of a single quality, and then
    one trained with exactly these codec options to one with others. A damaged candidate is warned about on
    standard error and passed over; a path is taken at its word. Raises `ModelError` naming what is installed.
    """
    if reference is not None and Path(reference).is_file():
        return Model.load(Path(reference), device)
    if reference is None:
        name, config = (codec.name, codec.config()) if codec else (None, None)
        candidates = sorted(list_models(name), key=lambda m: (not m.card.is_general, m.card.codec != config))
        missing = f"no model for codec {name} is installed; make one: vcframe train --codec {name}"
    else:
        installed = list_models()
        candidates = [model for model in installed if model.id == reference.lower()]
        known = ", ".join(model.id for model in installed) or "none"
        missing = (
            f"no model file or id {reference!r}; installed ids: {known}; get the model file from whoever "
            f"made the picture, and name it as the model or put it into the folder ${MODELS_VARIABLE}"
        )
    for candidate in candidates:
        try:
            return Model.load(candidate.path, device)
        except ModelError as error:
            warn_once(f"skipped {error}")
    raise ModelError(missing)


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and half-precision values, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}{tuple(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _weights(networks: Mapping[int, Networks]) -> dict[str, Tensor]:
    parts = {
        f"{scale}.{role}": getattr(system, role)
        for scale, system in networks.items()
        for role in ("description", "post")
    }
    return {
        f"{prefix}.{name}": value.detach().cpu().half().contiguous()
        for prefix, network in parts.items()
        for name, value in network.state_dict().items()
    }


def _read(path: Path) -> tuple[Card, dict[str, Tensor]]:
    with opened(path) as file:
        card, digest = _read_card(path, file)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if any(value.dtype != torch.float16 for value in weights.values()) or digest != weights_digest(weights):
        raise ModelError(f"{path}: the weights do not match their digest; the file is damaged")
    return card, weights


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, open for reading; raises `ModelError` where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable model file ({error})") from error


def _read_card(path: Path, file: Any) -> tuple[Card, str]:
    """The card, and the digest that the weights ought to have."""
    metadata = file.metadata() or {}
    if not {"vcframe_card", "sha256"} <= metadata.keys():
        raise ModelError(f"{path}: a safetensors file, but not a vcframe model (it has no card)")
    try:
        return Card.model_validate_json(metadata["vcframe_card"]), metadata["sha256"]
    except ValidationError as error:
        raise ModelError(f"{path}: unknown model format; a newer vcframe may read it") from error

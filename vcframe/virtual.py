"""A fitted virtual codec: weights and card in one safetensors file; save, load, verify.

It belongs to one codec configuration. The weights are kept in single precision: bits add up over many blocks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save as safetensors_bytes
from torch import nn

from vcframe.images import write_bytes
from vcframe.model import ModelError, opened, weights_digest
from vcframe.networks import build_virtual_codec


class VirtualCard(BaseModel):
    """What a virtual codec imitates, how it was made and how well it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    codec: dict[str, Any]
    """`Codec.config()` of the codec that is imitated."""
    codec_version: str
    channels: Literal[1, 3]
    training: dict[str, Any]
    """Data, scale of the descriptions, steps, minutes, seed."""
    fidelity: dict[str, Any]
    """On the held-out pictures of the training data: what `Fidelity.to_json` gives."""
    vcframe_version: str


class VirtualCodec:
    """A virtual codec network with its card."""

    def __init__(self, card: VirtualCard, network: nn.Module) -> None:
        self.card, self.network = card, network

    @property
    def id(self) -> str:
        """Eight lower-case hexadecimal digits that name these weights."""
        return weights_digest(self._weights())[:8]

    def save(self, path: Path) -> None:
        """Write the file; it appears complete or not at all."""
        weights = self._weights()
        metadata = {"vcframe_virtual": self.card.model_dump_json(), "sha256": weights_digest(weights)}
        write_bytes(path, safetensors_bytes(weights, metadata))

    @classmethod
    def load(cls, path: Path) -> VirtualCodec:
        """Read and verify a file; raises `ModelError`."""
        with opened(path) as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not {"vcframe_virtual", "sha256"} <= metadata.keys():
            raise ModelError(f"{path}: not a virtual codec; make one: vcframe virtual fit")
        if metadata["sha256"] != weights_digest(weights):
            raise ModelError(f"{path}: the weights do not match their digest; the file is damaged")
        try:
            card = VirtualCard.model_validate(json.loads(metadata["vcframe_virtual"]))
            network = build_virtual_codec(card.channels)
            network.load_state_dict(weights)
        except (ValidationError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: unknown kind of virtual codec; a newer vcframe may read it") from error
        return cls(card, network)

    def _weights(self) -> dict[str, Any]:
        return {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}

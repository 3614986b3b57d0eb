"""The device that the networks run on: placement, precision, one optimiser step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from vcframe.codec import UsageError, VcframeError


class TrainingError(VcframeError):
    """Training cannot go on, for example because the loss is no longer a number."""


class Engine:
    """Device, mixed precision where it is fast, channels-last layout."""

    def __init__(self, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device {device!r} cannot be used here; try cpu") from error
        # bfloat16 halves a step with AVX512-BF16 or on a GPU and is ten times SLOWER without: detect it.
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        self.mixed = self.device.type == "cuda" or bool(probe())

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device in channels-last layout."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def to(self, *tensors: Tensor) -> list[Tensor]:
        """Move tensors to the device; four-dimensional ones in channels-last layout."""
        return [
            t.to(self.device, memory_format=torch.channels_last) if t.ndim == 4 else t.to(self.device)
            for t in tensors
        ]

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Mixed precision for the forward passes, where it pays."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            yield


class Optimiser:
    """Adam with gradient clipping over one network; refuses a step that is not finite."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.parameters = list(network.parameters())
        self.learning_rate = learning_rate
        self.adam = torch.optim.Adam(self.parameters, lr=learning_rate, betas=(0.9, 0.99))

    def step(self, factor: float) -> None:
        """Move the parameters with `factor` times the learning rate, then clear the gradients."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, 1.0))
        if not math.isfinite(norm):
            raise TrainingError("the gradient is no longer finite")
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)


def cosine(fraction: float, warm_up: float = 0.03, floor: float = 0.01) -> float:
    """Learning-rate factor over a phase: linear warm-up, then half a cosine down to `floor`."""
    if fraction < warm_up:
        return floor + (1 - floor) * fraction / warm_up
    progress = min((fraction - warm_up) / (1 - warm_up), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def freeze(networks: Iterable[nn.Module]) -> None:
    """Stop gradients into these networks."""
    for network in networks:
        network.requires_grad_(False)

"""The device that the networks run on: placement, precision, one optimiser step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vcframe.codec import UsageError, VcframeError
from vcframe.networks.precision import autocast


class TrainingError(VcframeError):
    """Training cannot go on, for example because the loss is no longer a number."""


class Engine:
    """Device, mixed precision where it is fast, channels-last layout."""

    def __init__(self, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            if self.device.type not in ("cpu", "cuda"):
                raise RuntimeError("neither cpu nor cuda")
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device {device!r} cannot be used here; try cpu") from error

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device in channels-last layout."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def to(self, *tensors: Tensor) -> list[Tensor]:
        """Move tensors to the device; four-dimensional ones in channels-last layout."""
        return [
            t.to(self.device, memory_format=torch.channels_last) if t.ndim == 4 else t.to(self.device)
            for t in tensors
        ]

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Mixed precision for the forward passes, where it pays."""
        return autocast(self.device)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised: every direction of a weight matrix moves by the same amount.

    Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the step's
    RMS held at 0.2 times the learning rate, about that of Adam (Liu et al., arXiv 2502.16982). Kernels are
    matrices of output channels times inputs. torch.optim.Muon (torch 2.9) takes no convolutions.
    """

    momentum = 0.95

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if (gradient := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(gradient))
                mean.lerp_(gradient, 1 - self.momentum)
                update = orthogonalised(gradient.lerp(mean, self.momentum).flatten(1))
                scale = 0.2 * max(update.shape) ** 0.5
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1 (0.7 to 1.2), by five Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    out: Tensor = x.mT if tall else x
    return out


class Optimiser:
    """Muon for the convolution kernels of one network and Adam for its gains, tables and biases, clipped."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        kernels = [p for p in self.parameters if p.ndim == 4]
        others = [p for p in self.parameters if p.ndim != 4]
        self.parts: list[torch.optim.Optimizer] = []
        if kernels:
            self.parts.append(Muon(kernels, learning_rate))
        if others:
            self.parts.append(torch.optim.Adam(others, lr=learning_rate, betas=(0.9, 0.99)))

    def clip(self) -> float:
        """Scale the gradient down to norm 1; returns the norm before."""
        return float(nn.utils.clip_grad_norm_(self.parameters, 1.0))

    def step(self, factor: float) -> None:
        """Move the parameters with `factor` times the learning rate, then clear the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.learning_rate * factor
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """What a checkpoint keeps."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Continue from a checkpoint."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def take_step(optimisers: Mapping[str, Optimiser], loss: Tensor, factor: float) -> None:
    """Step every optimiser, after loss and gradients were found finite; raises `TrainingError`."""
    if not math.isfinite(loss.item()):
        raise TrainingError(f"the loss is {loss.item()}")
    for name, optimiser in optimisers.items():
        if not math.isfinite(norm := optimiser.clip()):
            raise TrainingError(f"the gradient of the {name} network has norm {norm}")
    for optimiser in optimisers.values():
        optimiser.step(factor)


def cosine(fraction: float, warm_up: float = 0.03, floor: float = 0.01) -> float:
    """Learning-rate factor over a phase: linear warm-up, then half a cosine down to `floor`."""
    if fraction < warm_up:
        return floor + (1 - floor) * fraction / warm_up
    progress = min((fraction - warm_up) / (1 - warm_up), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

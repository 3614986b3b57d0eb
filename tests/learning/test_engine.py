"""One optimiser step, and the average that runs beside the parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vcframe.learning.engine import Optimiser


def test_averages_are_pytorch_s_exponential_ones() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(2, 3, 3)
    optimiser = Optimiser(network.parameters(), 1e-2)
    optimiser.num_steps = 10**6  # far from the beginning, when the decay is the full one
    expected = [p.detach().clone() for p in network.parameters()]
    update = get_ema_multi_avg_fn(Optimiser.decay)
    for _ in range(5):
        network(torch.randn(1, 2, 8, 8)).square().mean().backward()
        optimiser.step(1.0)
        update(expected, [p.detach() for p in network.parameters()], torch.tensor(1))
    for average, value in zip(optimiser.averages, expected, strict=True):
        torch.testing.assert_close(average, value)
    optimiser.use_averages()
    for parameter, value in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_a_short_phase_forgets_where_it_began() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    optimiser = Optimiser([parameter], 0.0)
    parameter.data.fill_(1.0)  # all steps are taken there
    for _ in range(30):
        parameter.grad = torch.zeros(4)
        optimiser.step(1.0)
    assert optimiser.averages[0].min() > 0.99

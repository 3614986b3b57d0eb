"""A correction that the encoder fits to each picture: a few small numbers that travel in the file.

The post-processing network knows pictures on average; the encoder knows this one. Beside the network's last
layer stands a second one whose weights are a sum of learned *directions*, and the encoder, which has the
original, works out by least squares how much of each direction this picture wants. Loop filters of video
codecs do so (Tsai et al., "Adaptive Loop Filtering for Video Coding", IEEE J-STSP 2013), and so do networks
in their place (Kong et al., "Guided CNN Restoration with Explicitly Signaled Linear Combination", ICIP 2020).
The decoder pays for one convolution more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcframe.stream import NUM_LEVELS, coefficient_bytes

MAX_LEVEL = 7
"""Coefficients are whole numbers from -7 to 7: two fit into a byte."""

STEP = 4
"""A picture has a multiple of so many coefficients."""

SLOPE = 0.6
"""What a relative change of bytes is worth in squared error: about the slope of the codecs' curves, log over
log, where files are small."""

MIN_SQUARED_ERROR = 1e-9

QUALITY_STRIDE = 20
"""Quality levels between one that is tried and the next."""

LEAST_GAIN = 0.002
"""What the next must save of the squared error's logarithm, which is measured on samples of the picture."""

NUM_SWEEPS = 8
"""Rounds of the search for the best whole numbers; hardly any coefficient moves after five."""


class Adaptation(nn.Module):
    """Features of the trunk to a correction of its output, linear in the coefficients of a picture.

    Coefficients come in order of use: those left out at the end are 0, and directions are trained so that
    the first do most.
    """

    num_features = 24
    num_directions = 64

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, self.num_features, 3, padding=1)
        # So small at first that every coefficient wants to be large: a direction grows until the levels
        # suit it, where one too large would be rounded to 0 and never learn.
        scale = 0.01
        self.directions = nn.Parameter(
            scale * torch.randn(self.num_directions, out_channels, self.num_features + 1)
        )
        """The last of each row is an offset."""

    def features(self, x_BCHW: Tensor) -> Tensor:
        """What the correction is made of, `(B, num_features + 1, H, W)`; the last channel is 1."""
        hidden = F.relu(self.conv(x_BCHW))
        return torch.cat([hidden, torch.ones_like(hidden[:, :1])], 1)

    def forward(self, x_BCHW: Tensor, coefficients_BK: Tensor) -> Tensor:
        """The correction `(B, out_channels, H, W)` for the first K coefficients of each picture."""
        directions = self.directions[: coefficients_BK.shape[1]]
        mix_BOF = torch.einsum("bk,kof->bof", coefficients_BK, directions)
        return torch.einsum("bof,bfhw->bohw", mix_BOF, self.features(x_BCHW))


@dataclass(frozen=True)
class Moments:
    """What the best coefficients of a picture follow from, summed over the cells of its grid; areas add up.

    With features f of a cell and error e of its samples (0..1): `gram` is the sum of f f^T, `cross` that of
    e f^T, `(samples, features)`.
    """

    gram: npt.NDArray[np.float64]
    cross: npt.NDArray[np.float64]
    mixing: npt.NDArray[np.float64]
    """What of each output of the last layer is in each sample, `(samples, outputs)`."""
    squared_error: float
    """Of the restored picture without correction, clipped as in a file."""
    unclipped_squared_error: float

    @classmethod
    def measure(
        cls, features_FHW: Tensor, error_SHW: Tensor, clipped_SHW: Tensor, mixing_SO: Tensor
    ) -> Moments:
        """Of one area: features, errors of the samples before and after clipping, mixing."""
        features = features_FHW.flatten(1).double()
        error = error_SHW.flatten(1).double()
        return cls(
            (features @ features.T).cpu().numpy(),
            (error @ features.T).cpu().numpy(),
            mixing_SO.double().cpu().numpy(),
            float(clipped_SHW.double().square().sum()),
            float(error.square().sum()),
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.mixing,
            self.squared_error + other.squared_error,
            self.unclipped_squared_error + other.unclipped_squared_error,
        )

    def coefficients(self, directions_KOF: Tensor, num_bytes: int) -> tuple[int, ...]:
        """The levels of so many first directions as pay for their bytes in a file of `num_bytes`; maybe none.

        They minimise `log(squared error) + SLOPE * log(bytes)`. What they leave, clipped as in a file, is no
        more than what is minimised here, since the original is never outside of 0..1: no picture gets worse.
        """
        return self.cheapest(directions_KOF, num_bytes)[1]

    def cheapest(self, directions_KOF: Tensor, num_bytes: int) -> tuple[float, tuple[int, ...]]:
        """What those coefficients bring the minimised sum to, and the coefficients."""
        best: tuple[int, ...] = ()
        least = math.log(max(self.squared_error, MIN_SQUARED_ERROR)) + SLOPE * math.log(num_bytes)
        for levels, squared_error in self.fits(directions_KOF, range(STEP, len(directions_KOF) + 1, STEP)):
            longer = num_bytes + coefficient_bytes(len(levels))
            cost = math.log(max(squared_error, MIN_SQUARED_ERROR)) + SLOPE * math.log(longer)
            if cost < least:
                best, least = levels, cost
        return least, best

    def least_squared_error(self, directions_KOF: Tensor) -> float:
        """What coefficients of all directions would leave if they need not be whole numbers."""
        gains, costs = self._gains_and_costs(directions_KOF)
        best = np.linalg.lstsq(costs, gains, rcond=1e-9)[0]
        return max(self.unclipped_squared_error - float(gains @ best), MIN_SQUARED_ERROR)

    def _gains_and_costs(
        self, directions_KOF: Tensor
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Coefficients x leave `unclipped_squared_error - 2 x^T gains + x^T costs x`."""
        directions = directions_KOF.detach().cpu().double().numpy()
        mixed_KSF = self.mixing @ directions
        gains: npt.NDArray[np.float64] = np.tensordot(mixed_KSF, self.cross, 2)
        weighted, rows = (part.reshape(len(part), -1) for part in (mixed_KSF @ self.gram, mixed_KSF))
        costs: npt.NDArray[np.float64] = weighted @ rows.T
        return gains, costs

    def fits(self, directions_KOF: Tensor, numbers: Iterable[int]) -> Iterator[tuple[tuple[int, ...], float]]:
        """By number of first directions, ascending: their best levels and the squared error they leave."""
        gains, costs = self._gains_and_costs(directions_KOF)
        levels = np.zeros(0)
        for number in numbers:
            # What served fewer directions is a good place to begin, and so is the rounded least squares.
            longer = np.concatenate([levels, np.zeros(number - len(levels))])
            part, wanted = costs[:number, :number], gains[:number]
            free = np.linalg.lstsq(part, wanted, rcond=1e-9)[0].astype(np.float64)
            tried = [_whole_numbers(part, wanted, start) for start in (longer, free)]
            saved, levels = max(((2 * x @ wanted - x @ part @ x, x) for x in tried), key=lambda pair: pair[0])
            yield tuple(map(int, levels)), self.unclipped_squared_error - float(saved)


def best_quality_level(log_error: Callable[[int], float], level: int) -> int:
    """The quality level near `level` at which a network leaves the least error: up or down while it falls.

    A network knows what a quality does to pictures on average. This one may be harder or easier, and is then
    restored better as if it had been coded at another quality.
    """
    known = {level: log_error(level)}
    for stride in (QUALITY_STRIDE, -QUALITY_STRIDE):
        while 0 <= (tried := level + stride) < NUM_LEVELS and tried not in known:
            known[tried] = log_error(tried)
            if known[tried] > known[level] - LEAST_GAIN:
                break
            level = tried
    return level


def _whole_numbers(
    costs: npt.NDArray[np.float64], gains: npt.NDArray[np.float64], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Levels x near the least of `x^T costs x - 2 x^T gains`: each at its best in turn, until none moves."""
    levels = np.clip(np.round(start), -MAX_LEVEL, MAX_LEVEL)
    for _ in range(NUM_SWEEPS):
        before = levels.copy()
        for k in range(len(levels)):
            if costs[k, k] > 0:
                rest = gains[k] - costs[k] @ levels + costs[k, k] * levels[k]
                levels[k] = min(max(round(rest / costs[k, k]), -MAX_LEVEL), MAX_LEVEL)
        if np.array_equal(levels, before):
            break
    return levels

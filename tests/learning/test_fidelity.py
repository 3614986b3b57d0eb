"""The fidelity report's arithmetic, on a codec whose virtual codec is known exactly and on cases by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from vcframe import Codec, Image, QualityScale, Traits
from vcframe.learning.coded import CodingRoom
from vcframe.learning.fidelity import Move, Probe, Sample, Spread, agreement, measure_fidelity, summarise


class NegativeCodec(Codec):
    """Decodes to the negative; the file grows by one byte for each grey level of each sample."""

    name = "negative"
    extension = ".neg"
    quality_scale = QualityScale(1, 3, 1, (1, 2, 3), "nothing")
    traits = Traits()

    def encode(self, image: Image, quality: float) -> bytes:
        size = np.array(image.shape, np.uint32).tobytes()
        return size + (255 - image).tobytes() + bytes(int(image.sum(dtype=np.int64)))

    def decode(self, data: bytes) -> Image:
        shape = np.frombuffer(data[:12], np.uint32)
        return np.frombuffer(data[12 : 12 + shape.prod()], np.uint8).reshape(shape).copy()

    def probe(self, data: bytes) -> tuple[int, int, int]:
        height, width, channels = np.frombuffer(data[:12], np.uint32).tolist()
        return height, width, channels

    def version(self) -> str:
        return "negative 1"


def exact(x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
    """What `NegativeCodec` does, with bits net of a flat picture of 128."""
    return 1 - x_BCHW, 8 * (255 * x_BCHW - 128).sum((1, 2, 3))


def identity(x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
    return x_BCHW, (0 * x_BCHW[:, 0] + 1).sum((1, 2))


@pytest.fixture
def room() -> Iterator[CodingRoom]:
    room = CodingRoom(NegativeCodec())
    yield room
    room.close()


def bright_pictures() -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(low, 256, (24, 32, 3), np.uint8) for low in (60, 90, 120)]


def test_a_perfect_virtual_codec_has_no_error_and_agrees(room: CodingRoom) -> None:
    measured = measure_fidelity({"exact": exact}, room, bright_pictures(), (1, 3))["exact"]
    assert measured.pixel == pytest.approx(0, abs=1e-9)
    assert measured.bits_net.p90 == pytest.approx(0, abs=1e-4)
    assert measured.bits_file.p90 == pytest.approx(0, abs=1e-4)
    assert measured.rank == pytest.approx(1)
    for agreed in (measured.random, measured.learned):
        assert agreed.error == pytest.approx(1, abs=2e-3)
        assert agreed.bits == pytest.approx(1, abs=2e-3)
        assert agreed.predicted == pytest.approx(agreed.real, rel=2e-2)
    assert measured.learned.real < -0.01  # downhill


def test_the_identity_has_all_of_the_error_and_no_slope_of_the_bits(room: CodingRoom) -> None:
    measured = measure_fidelity(
        {"identity": identity}, room, bright_pictures(), (1, 2), stand_ins={"identity"}
    )["identity"]
    assert measured.pixel == 1
    assert measured.pixel_by_quality == {"1": 1, "2": 1}
    assert measured.random.bits is None
    # It follows the picture where the codec goes against it.
    assert measured.random.error == pytest.approx(-1, abs=2e-3)
    assert measured.learned.real > 0


def test_perturbations_can_be_taken_both_ways(room: CodingRoom) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    step = Probe(room, picture, 1).step(np.random.default_rng(2).normal(size=picture.shape))
    for moved in (picture + step, picture - step):
        assert np.array_equal(moved, np.clip(moved.round(), 0, 255))
    assert np.sqrt(np.mean(step**2)) == pytest.approx(2, rel=0.1)


def sample(quality: float, bits: float, net_bits: float, fixed_bits: float = 0, error: float = 1) -> Sample:
    still = Move((0.0, 0.0), (0.0, 0.0))
    return Sample(quality, 10, error, 4, bits, net_bits, fixed_bits, {"random": still, "learned": still})


def test_figures_by_hand() -> None:
    samples = [sample(1, 90, 100, 100, 1), sample(1, 120, 100, 100, 3), sample(2, 400, 200, 200, 4)]
    figures = summarise(samples, calibrated=False)
    assert figures.pixel_by_quality == {"1": 4 / 8, "2": 1}
    assert figures.pixel == 0.75
    # Off by 10, 20 and 100 %: the 90th percentile lies at 0.8 of the way from the second to the third.
    assert figures.bits_net == Spread(pytest.approx(0.2), pytest.approx(0.2 + 0.8 * 0.8))
    assert figures.bits_file == Spread(pytest.approx(0.1), pytest.approx(0.1 + 0.8 * 0.4))
    assert figures.bits_net_by_quality["1"].median == pytest.approx(0.15)
    assert figures.random.error is None


def test_rank_correlation_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15).
    pairs = [(20, 1), (10, 2), (30, 3), (40, 4)]
    assert summarise([sample(1, b, n) for b, n in pairs], calibrated=False).rank == pytest.approx(0.8)
    assert summarise([sample(1, 5, n) for _, n in pairs], calibrated=False).rank is None


def test_a_stand_in_s_bits_are_scaled_by_the_best_constant_of_each_quality() -> None:
    samples = [sample(1, 1, 50), sample(1, 2, 100), sample(2, 1, 7), sample(2, 4, 28)]
    assert summarise(samples, calibrated=True).bits_net.p90 == pytest.approx(0, abs=1e-12)


def test_agreement_by_hand() -> None:
    moves = [Move((1.0, 0.0), (1.0, 2.0)), Move((0.0, 0.0), (1.0, -1.0))]
    agreed = agreement(moves)
    assert agreed.error == pytest.approx(2**-0.5)
    assert agreed.bits is None
    assert (agreed.predicted, agreed.real) == (0.5, 1.5)


def test_gradients_are_per_grey_level(room: CodingRoom) -> None:
    """Of log(mse) of the real codec along the virtual one's slope, and of log(bits): by hand."""
    picture = np.full((8, 8, 3), 200, np.uint8)
    error, bits = Probe(room, picture, 1).gradients(exact, torch.tensor([0.0]))
    # The error is 55 - 200 everywhere and shrinks by one level with one level more: d log(mse) = 2 / 145 / n.
    assert error == pytest.approx(np.full(picture.shape, 2 / 145 / picture.size), rel=1e-4)
    assert bits == pytest.approx(np.full(picture.shape, 1 / 72 / picture.size), rel=1e-4)

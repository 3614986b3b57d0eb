"""The joint step: the real codec decides the values, the virtual codec only the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from vcframe.codec import Image
from vcframe.learning import phases
from vcframe.learning.coded import CodedPool, CodingRoom
from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import Engine
from vcframe.learning.phases import (
    AdaptationPhase,
    JointPhase,
    PaperDescriptionPhase,
    PostPhase,
    StepResult,
    Workshop,
    plain_describe,
    virtual_codec_loss,
)
from vcframe.networks import Networks, build_networks
from vcframe.networks.small import SmallDescription, SmallPostProcessing
from vcframe.registry import Registry


class OnePicture:
    """A source that always gives the same picture's crops."""

    summary = "one picture"

    def __init__(self, picture: Image) -> None:
        self.picture, self.validation = picture, [picture]

    def crop(self, index: int, side: int, rng: np.random.Generator) -> Image:
        top, left = (int(rng.integers(s - side + 1)) for s in self.picture.shape[:2])
        return np.ascontiguousarray(self.picture[top : top + side, left : left + side])

    def close(self) -> None:
        pass


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    torch.manual_seed(0)
    codec = Registry.load().codec("jpeg")
    sizes = {"batch": 3, "patch": 32, "crop": 64, "joint_crop": 64, "pool": 4}
    config = TrainConfig.checked(codec=codec.config(), out=tmp_path, steps=10, scale=1, **sizes)
    source = OnePicture(skimage.data.astronaut()[:128, :128])
    return Workshop(config, Engine("cpu"), CodingRoom(codec), source, build_networks("small", 1, 8))


def test_pool_patches_are_cut_from_whole_coded_crops(workshop: Workshop) -> None:
    pool = CodedPool(workshop.room, workshop.source, plain_describe(1), workshop.config, key=0)
    batch = pool.batch(0)
    codec, scale = workshop.room.codec, workshop.room.codec.quality_scale
    jobs = [future.result() for future in pool.jobs.values()]
    for patch, decoded, unit in zip(batch.original, batch.decoded, batch.unit_B.tolist(), strict=True):
        # Some crop, coded whole by the real codec at that quality, holds exactly this patch.
        matches = []
        for job in (job for job in jobs if abs(job.unit - unit) < 1e-6):
            whole, _ = codec.roundtrip(job.original.permute(1, 2, 0).contiguous().numpy(), scale.native(unit))
            windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32), axis=(0, 1))
            wanted = (decoded * 255).round().byte().numpy()
            matches += list(np.argwhere((windows == wanted).all((2, 3, 4))))
        assert matches
        assert patch.shape == decoded.shape


def test_some_pictures_are_coded_as_grey_files(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both phases of the post-processing network see them, as a model gives them to it."""
    workshop.networks.post.make_adaptation()  # type: ignore[operator,union-attr]
    codec, scale = workshop.room.codec, workshop.room.codec.quality_scale
    for share in (1.0, phases.GREY_SHARE):
        monkeypatch.setattr(phases, "GREY_SHARE", share)
        post = PostPhase(workshop, plain_describe(1), 0, 1e-3)
        for phase in (post, AdaptationPhase(workshop, plain_describe(1), 0)):
            phase.pool.batch(0)
            crops = [future.result() for future in phase.pool.jobs.values()]
            grey = [crop for crop in crops if (crop.original == crop.original[:1]).all()]
            assert share / 3 < len(grey) / len(crops) <= 3 * share
            decoded, _ = codec.roundtrip(grey[0].original[0].numpy(), scale.native(grey[0].unit))
            assert decoded.ndim == 2
            assert all(np.array_equal(channel, decoded) for channel in grey[0].decoded.numpy())


def test_crops_of_which_next_to_nothing_is_kept_are_drawn_again(workshop: Workshop) -> None:
    """Most of this picture is flat, and so would most of its crops be."""
    mostly_flat = np.full((512, 128, 3), 128, np.uint8)
    mostly_flat[:128] = skimage.data.astronaut()[:128, :128]
    workshop = replace(workshop, source=OnePicture(mostly_flat))
    shares = []
    for least_bpp in (0.0, phases.LEAST_BPP):
        pool = CodedPool(
            workshop.room, workshop.source, plain_describe(1), workshop.config, 0, least_bpp=least_bpp
        )
        pool.batch(0)
        crops = [future.result() for future in pool.jobs.values()]
        shares.append(np.mean([crop.net_bits < phases.LEAST_BPP * 64 * 64 for crop in crops]))
    assert shares[1] < 0.3 < 0.5 < shares[0]
    post = PostPhase(workshop, plain_describe(1), 0, 1e-3)
    assert post.pool.least_bpp == phases.LEAST_BPP


def test_bits_are_net_of_what_any_file_costs(workshop: Workshop) -> None:
    flat, photo = np.full((64, 64, 3), 128, np.uint8), skimage.data.astronaut()[:64, :64].copy()
    flat_bits = workshop.room.roundtrip(flat, 50).net_bits
    photo_bits = workshop.room.roundtrip(photo, 50).net_bits
    whole = 8 * len(workshop.room.codec.encode(photo, 50))
    empty = 8 * len(workshop.room.codec.encode(flat, 50))
    assert photo_bits == whole - empty
    assert flat_bits <= 64  # the floor
    assert empty > 1000  # a JPEG header is most of a small file: the correction is not small


def test_a_perfect_virtual_codec_has_no_loss() -> None:
    real, bits = torch.rand(2, 3, 16, 16), torch.tensor([1000.0, 2000.0])
    description = torch.rand(2, 3, 16, 16)
    loss, pixel, relative = virtual_codec_loss(real, bits, description, real, bits)
    assert float(loss) == pixel == relative == 0
    _, identity, _ = virtual_codec_loss(description, bits, description, real, bits)
    assert identity == pytest.approx(1.0)


def test_virtual_codec_gradients_reach_the_description_and_real_values_the_loss(workshop: Workshop) -> None:
    """With a zero slope and an identity virtual codec the joint loss is the real codec's log error."""
    seen: list[float] = []
    phase = JointPhase(workshop, 0, slope=lambda unit: 0.0, move_description=True)
    pictures, qualities = phase._pictures(0)
    for picture, quality in zip(pictures, qualities, strict=True):
        decoded, _ = workshop.room.codec.roundtrip(picture, quality)
        mse = np.mean((decoded.astype(float) - picture) ** 2) / 255**2
        seen.append(float(np.log(mse)))
    phase.crops.clear()
    before = workshop.networks.description.trunk.tail.weight.clone()  # type: ignore[union-attr,operator]
    result = phase.step(0, 1.0)
    # Fresh networks are the identity at full size, so the loss must be the plain codec's.
    assert result.loss == pytest.approx(np.mean(seen), abs=1e-4)
    after = workshop.networks.description.trunk.tail.weight  # type: ignore[union-attr]
    assert not torch.equal(before, after)  # type: ignore[arg-type]


def test_the_virtual_codec_learns_the_real_one(workshop: Workshop) -> None:
    """The same pictures again and again: their coding error and bits must become predictable."""
    phase = JointPhase(workshop, 0, slope=lambda unit: 0.5, move_description=False)
    frozen = [p.clone() for p in workshop.networks.description.parameters()]
    losses = [phase.step(0, 1.0).loss for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    pairs = zip(frozen, workshop.networks.description.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class LinearVirtualCodec(nn.Module):
    """Its derivatives are known: 0.5 for every sample, 1000 bits for the mean of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: torch.Tensor, unit_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bits_B = 5000 + 1000 * x_BCHW.mean((1, 2, 3)) + self.unused
        return 0.5 * x_BCHW, bits_B


class Offset(nn.Module):
    """A description network with one parameter that is added everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: torch.Tensor, unit_B: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.offset


class Identity(nn.Module):
    """A post-processing network that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: torch.Tensor, unit_B: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return x_BCHW + 0 * self.unused


def offset_gradient(
    workshop: Workshop, virtual: nn.Module, slope: float, by_hand: Callable[[Image, Image], float]
) -> tuple[float, float]:
    """The gradient of an offset before the codec, in one joint step and as the mean of `by_hand`.

    `by_hand` has each picture and what the real codec makes of it.
    """
    networks = Networks(Offset(), Identity(), virtual, 3)
    phase = JointPhase(replace(workshop, networks=networks), 0, lambda unit: slope, move_description=True)
    pairs = zip(*phase._pictures(0), strict=True)
    expected = [
        by_hand(picture, workshop.room.roundtrip(picture, quality).picture) for picture, quality in pairs
    ]
    phase.crops.clear()
    gradients: list[float] = []
    offset = networks.description.offset
    offset.register_hook(lambda gradient: gradients.append(float(gradient)))  # type: ignore[union-attr,operator]
    phase.step(0, 1.0)
    (gradient,) = gradients
    return gradient, float(np.mean(expected))


def error_slope(picture: Image, decoded: Image) -> float:
    """`d log(mse) / d offset` where the decoded picture moves with the offset."""
    error = (decoded.astype(float) - picture) / 255
    return float(2 * error.sum() / (error**2).sum())


@pytest.mark.parametrize(("slope", "rate"), [(0.0, 1.0), (0.7, 1.0), (0.7, 0.5), (0.7, 0.0)])
def test_the_description_s_gradient_is_the_objective_s_through_the_virtual_codec(
    workshop: Workshop, slope: float, rate: float
) -> None:
    """Real error and real bits, derivatives of the virtual codec: compared with a calculation by hand."""

    def by_hand(picture: Image, decoded: Image) -> float:
        through_bits = rate * slope * 1000 / (5000 + 1000 * float(picture.mean()) / 255)
        return 0.5 * error_slope(picture, decoded) + through_bits

    shop = replace(workshop, config=workshop.config.model_copy(update={"rate": rate}))
    gradient, expected = offset_gradient(shop, LinearVirtualCodec(), slope, by_hand)
    assert gradient == pytest.approx(expected, rel=1e-3)


def test_straight_through_is_the_gradient_of_the_error_past_the_codec(workshop: Workshop) -> None:
    """The identity as virtual codec, from its plugin file: its bits move nothing, whatever the slope."""
    plugin = Path(__file__).parents[2] / "benchmarks/virtual_codecs/identity.py"
    if not plugin.exists():
        pytest.skip("benchmarks/ is part of a checkout only")
    virtual = Registry.load([plugin]).virtual_codec(workshop.room.codec)
    assert virtual is not None
    gradient, expected = offset_gradient(workshop, virtual, 0.7, error_slope)
    assert gradient == pytest.approx(expected, rel=1e-3)


def test_the_paper_s_description_step_weighs_the_structure(workshop: Workshop) -> None:
    def step(dssim: float) -> StepResult:
        changes = {"schedule": "paper", "scale": 2, "dssim": dssim}
        networks = build_networks("small", 2, 8)
        networks = replace(networks, virtual=networks.post)  # a twin that adds nothing yet
        shop = replace(workshop, config=workshop.config.model_copy(update=changes), networks=networks)
        description = networks.description
        assert isinstance(description, SmallDescription)
        torch.nn.init.constant_(description.trunk.tail.bias, 0.1)  # away from the plain reduction
        return PaperDescriptionPhase(shop, key=0).step(0, 1.0)

    without, once, twice = map(step, (0.0, 1.0, 2.0))
    structure = once.loss - without.loss
    assert structure > 0.001
    assert twice.loss - once.loss == pytest.approx(structure, rel=1e-3)
    assert once.text.endswith(f"dssim {structure:.4f}")


def test_directions_learn_what_pictures_want_and_the_network_with_them(workshop: Workshop) -> None:
    post = workshop.networks.post
    assert isinstance(post, SmallPostProcessing)
    phase = AdaptationPhase(workshop, plain_describe(1), key=0)
    before = {name: value.clone() for name, value in post.state_dict().items()}

    def left() -> float:
        """Share of the squared error of held crops that the best coefficients leave."""
        batch = phase.pool.batch(0)
        area = (slice(0, 64), slice(0, 64))
        with torch.no_grad():
            features = post.features(batch.decoded, batch.unit_B)
            moments = post.moments(features, batch.decoded, batch.unit_B, batch.original, area)
        assert post.adaptation is not None
        fits = [
            next(m.fits(post.adaptation.directions, [64]))[1] / m.unclipped_squared_error for m in moments
        ]
        return float(np.mean(fits))

    at_first = left()
    for step in range(12):
        phase.step(step, 1.0)
    assert left() < at_first - 0.02
    for name, value in post.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_the_adaptation_counts_structure_by_its_weight(workshop: Workshop) -> None:
    def first_loss(weight: float) -> float:
        shop = replace(workshop, config=workshop.config.model_copy(update={"dssim": weight}))
        shop.networks.post.load_state_dict(before)
        return AdaptationPhase(shop, plain_describe(1), key=0).step(0, 1.0).loss

    assert isinstance(workshop.networks.post, SmallPostProcessing)
    workshop.networks.post.make_adaptation()
    before = {name: value.clone() for name, value in workshop.networks.post.state_dict().items()}
    without, half, whole = map(first_loss, (0.0, 0.5, 1.0))
    assert whole < without, "the logarithm of a dissimilarity below 1"
    assert half == pytest.approx((without + whole) / 2, abs=1e-5)

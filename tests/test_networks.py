"""The networks: published layer counts, identity at the start, any size, quality conditioning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vcframe.networks import build_networks, downsample, preset_costs, round_to_8_bit, upsample
from vcframe.networks.layers import FineQualityTable, QualityTable
from vcframe.networks.small import SmallPostProcessing

COSTS = {(cost.preset, cost.scale, cost.role): cost for cost in preset_costs()}


@pytest.mark.parametrize(
    ("role", "num_parameters", "kmacs"),
    [
        # Layer by layer as published: 9x9 1->128, stride-2 3x3, four 3x3 128->128, 9x9 128->1 ...
        ("description", (81 + 5 * 9 * 128 + 81) * 128 + 6 * 128 + 1, 197),
        # ... and 9x9 1->128, six 3x3 128->128, transposed 9x9 stride 2 128->1.
        ("post-processing", (81 + 6 * 9 * 128 + 81) * 128 + 7 * 128 + 1, 226),
        ("virtual codec", (81 + 6 * 9 * 128 + 81) * 128 + 7 * 128 + 1, 226),
    ],
)
def test_paper_networks_have_the_published_size(role: str, num_parameters: int, kmacs: int) -> None:
    cost = COSTS["paper", 2, role]  # type: ignore[index]
    assert cost.num_parameters == num_parameters
    assert round(cost.macs_per_pixel / 1000) == kmacs


@pytest.mark.parametrize(("scale", "least"), [(1, 15_000), (2, 15_000), (4, 10_000)])
def test_small_decoder_stays_within_its_budget(scale: int, least: int) -> None:
    cost = COSTS["small", scale, "post-processing"]
    assert least < cost.macs_per_pixel <= 30_000


def test_counted_macs_agree_with_a_hand_count() -> None:
    # Scale 2: 3x3 convolutions at half size, 3 -> C, ten C -> C in five blocks, C -> 12.
    channels = build_networks("small", 2, 8).post.trunk.head.out_channels  # type: ignore[union-attr]
    expected = 9 * (3 * channels + 10 * channels * channels + 12 * channels) / 4
    assert COSTS["small", 2, "post-processing"].macs_per_pixel == expected


@pytest.mark.parametrize("block", [1, 4, 8])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64), (50, 47)])
def test_untrained_small_networks_are_plain_resampling(scale: int, block: int, size: tuple[int, int]) -> None:
    networks = build_networks("small", scale, block)
    x, unit_B = torch.rand(2, 3, *size), torch.tensor([0.1, 0.9])
    with torch.no_grad():
        description = networks.description(x, unit_B)
        restored = networks.post(description, unit_B, size)
    plain = downsample(x, scale).clamp(0, 1)
    assert torch.equal(description, plain)
    assert torch.equal(restored, upsample(plain, scale)[..., : size[0], : size[1]])
    assert restored.shape == x.shape


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 40)])
def test_virtual_codec_gives_pixels_and_positive_bits_for_any_size(size: tuple[int, int]) -> None:
    virtual = build_networks("small", 1, 8).virtual
    x = torch.rand(2, 3, *size, requires_grad=True)
    decoded, bits_B = virtual(x, torch.tensor([0.0, 1.0]))
    assert decoded.shape == x.shape
    assert bits_B.shape == (2,)
    assert bool((bits_B > 0).all())


@pytest.mark.parametrize("size", [(7, 5), (32, 40)])
@pytest.mark.parametrize("scale", [1, 2])
def test_paper_networks_take_any_size(scale: int, size: tuple[int, int]) -> None:
    networks = build_networks("paper", scale, 8)
    x, unit_B = torch.rand(1, 1, *size), torch.tensor([0.5])
    with torch.no_grad():
        description = networks.description(x, unit_B)
        assert description.shape[-2:] == (-(-size[0] // scale), -(-size[1] // scale))
        assert 0 <= description.min() <= description.max() <= 1
        assert networks.post(description, unit_B, size).shape == x.shape


def test_quality_changes_what_a_trained_network_does() -> None:
    post = build_networks("small", 2, 8).post
    with torch.no_grad():
        for name, parameter in post.named_parameters():
            if "table" in name or "tail" in name:
                nn.init.normal_(parameter, std=0.1)
        decoded = torch.rand(1, 3, 16, 16).expand(2, -1, -1, -1)
        low, high = post(decoded, torch.tensor([0.2, 0.8]), (32, 32))
    assert not torch.allclose(low, high)


def test_quality_gain_interpolates_between_its_knots() -> None:
    from vcframe.networks.layers import QualityGain

    gain = QualityGain(1)
    with torch.no_grad():
        gain.gain.table.copy_(torch.linspace(1, 3, 9)[:, None] ** 2)
        out = gain(torch.ones(4, 1, 1, 1), torch.tensor([0.0, 0.0625, 0.125, 1.0]))
    assert out.flatten().tolist() == [1.0, (1 + 1.25**2) / 2, 1.25**2, 9.0]


def test_weights_tell_the_shape_of_the_trunk() -> None:
    """Models of another number of channels and blocks, as the first ones were, restore what they did."""
    earlier, fresh = (build_networks("small", 1, 8).post for _ in range(2))
    assert isinstance(earlier, SmallPostProcessing)
    assert isinstance(fresh, SmallPostProcessing)
    earlier._make_trunk(40, 3)
    nn.init.normal_(earlier.trunk.tail.weight, std=0.1)
    assert fresh.tiling.reach == 2 * 12 > earlier.tiling.reach == 2 * 8
    fresh.load_state_dict(earlier.state_dict())
    assert fresh.trunk.shape == (40, 3)
    assert fresh.tiling == earlier.tiling
    x, unit_B = torch.rand(1, 3, 20, 22), torch.tensor([0.4])
    assert torch.equal(fresh(x, unit_B, (20, 22)), earlier(x, unit_B, (20, 22)))


def test_a_table_has_its_entries_at_its_knots() -> None:
    for kind in (QualityTable, FineQualityTable):
        table = kind(2, -1.0, 1.0)
        nn.init.normal_(table.table)
        knots = torch.linspace(0, 1, table.num_knots) ** (1 / table.power)
        assert torch.allclose(table(knots)[:, :, 0, 0], table.table, atol=1e-4)
    assert [FineQualityTable.unit(knot) for knot in (0, 4, 16)] == [0, 1 / 16, 1]


def test_in_use_the_gains_of_a_quality_are_in_the_weights() -> None:
    """The same picture as in training, and no multiplication of features."""
    torch.manual_seed(2)
    trunk = build_networks("small", 2, 8).post.trunk
    assert isinstance(trunk, nn.Module)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, unit = torch.rand(1, 3, 9, 10), torch.tensor([0.3])
    trained = trunk(x, unit)
    with torch.inference_mode(), torch.profiler.profile(record_shapes=True) as profile:
        used = trunk(x, unit)
    assert trained.std() > 0.1
    torch.testing.assert_close(used, trained, rtol=1e-4, atol=1e-5)
    products = [event.input_shapes[0] for event in profile.events() if event.name == "aten::mul"]
    assert all(shape[-2:] != [9, 10] for shape in products)


def test_resampling_agrees_with_pillow() -> None:
    import PIL.Image
    import skimage.data

    picture = skimage.data.coffee()[:200, :300]
    ours = downsample(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float(), 2)[0].permute(1, 2, 0)
    pillow = np.asarray(PIL.Image.fromarray(picture).resize((150, 100), PIL.Image.Resampling.BICUBIC))
    assert np.abs(ours.numpy().clip(0, 255).round() - pillow).max() <= 1


def test_rounding_has_256_levels_and_passes_the_gradient() -> None:
    x = torch.tensor([-0.5, 0.1234, 0.5, 2.0], requires_grad=True)
    rounded = round_to_8_bit(x)
    assert torch.allclose(rounded * 255, (rounded * 255).round(), atol=1e-4)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_cosine_basis_agrees_with_scipy() -> None:
    import scipy.fft

    from vcframe.networks.virtual import cosine_basis

    block = torch.rand(8, 8, dtype=torch.float64)
    ours = cosine_basis(8).double() @ block.flatten()
    expected = torch.from_numpy(scipy.fft.dctn(block.numpy(), norm="ortho")).flatten()
    assert torch.allclose(ours, expected, atol=1e-5)


def test_virtual_codec_starts_as_a_dead_zone_that_narrows_with_quality() -> None:
    virtual = build_networks("small", 1, 8).virtual
    x = 0.5 + 0.1 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs = [virtual(x, torch.tensor([unit])) for unit in (0.0, 0.5, 1.0)]
    errors = [float((decoded - x).square().mean()) for decoded, _ in outputs]
    bits = [float(bits_B) for _, bits_B in outputs]
    assert errors[0] > errors[1] > errors[2] > 0
    assert bits[0] < bits[1] < bits[2]


def test_excess_is_the_logarithm_over_the_threshold_and_flat_deep_below_it() -> None:
    """A cusp at zero would give the faintest detail the steepest slope, where a codec has none."""
    from vcframe.networks.virtual import DeadZone

    zone, unit_B = DeadZone(1), torch.tensor([0.5])
    threshold = float(zone.threshold(unit_B).exp()) / 255
    ratios = (0.0, 0.02, 1.0, 10.0, -10.0)
    zero, faint, one, ten, minus = (
        float(zone.excess(torch.full((1, 1, 1, 1), ratio * threshold), unit_B).detach()) for ratio in ratios
    )
    assert faint - zero < 0.05
    assert one == pytest.approx(0, abs=0.01)
    assert ten == minus == pytest.approx(np.log(10), abs=0.01)

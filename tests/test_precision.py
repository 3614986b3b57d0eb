"""bfloat16 where it is fast, and what it may change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
import torch

from vcframe.model import find_model
from vcframe.networks import precision
from vcframe.registry import Registry
from vcframe.ways import Way


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    precision.bfloat16_pays.cache_clear()
    yield
    precision.bfloat16_pays.cache_clear()


@pytest.mark.parametrize(
    ("feature", "seconds", "pays"),
    [(True, 0.5, True), (True, 1.4, False), (False, 0.5, False)],
    ids=["faster", "slower", "not there"],
)
def test_bfloat16_where_the_processor_has_it_and_is_faster_with_it(
    feature: bool, seconds: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: feature, raising=False)
    monkeypatch.setattr(precision, "_seconds", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0)
    assert precision.bfloat16_pays("cpu") is pays
    layer, x = torch.nn.Conv2d(1, 1, 3), torch.ones(1, 1, 5, 5)
    with precision.autocast(torch.device("cpu")):
        assert layer(x).dtype == (torch.bfloat16 if pays else torch.float32)


def test_both_precisions_can_be_timed() -> None:
    assert precision._seconds(torch.float32) > 0
    assert precision._seconds(torch.bfloat16) > 0


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_bfloat16_moves_no_sample_by_more_than_a_grey_level(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Registry.load().codec(name)
    model = find_model(None, codec)
    picture = np.ascontiguousarray(skimage.data.astronaut()[100:260, 100:260])
    for scale in model.card.scales:
        way = Way(picture, codec, model, scale)
        data = way.compress(codec.quality_scale.native(0.15)).adapted.data
        restored = []
        for pays in (False, True):
            monkeypatch.setattr(precision, "bfloat16_pays", lambda device_type, pays=pays: pays)
            restored.append(way.restore(data).astype(int))
        difference = np.abs(restored[0] - restored[1])
        assert difference.max() == 1, scale

"""The device that the networks run on."""

from __future__ import annotations

import pytest
import torch

from vcframe.learning import engine


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    engine._bfloat16_pays.cache_clear()


@pytest.mark.parametrize(
    ("feature", "seconds", "mixed"),
    [(True, 0.5, True), (True, 1.4, False), (False, 0.5, False)],
    ids=["faster", "slower", "not there"],
)
def test_bfloat16_where_the_processor_has_it_and_is_faster_with_it(
    feature: bool, seconds: float, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: feature, raising=False)
    monkeypatch.setattr(engine, "_seconds", lambda mixed: seconds if mixed else 1.0)
    assert engine.Engine("cpu").mixed is mixed


def test_both_precisions_can_be_timed() -> None:
    assert engine._seconds(mixed=False) > 0
    assert engine._seconds(mixed=True) > 0

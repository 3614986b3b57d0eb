"""The search for a quality on curves written out here, and on real codecs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data

from vcframe import Codec, Image, UsageError
from vcframe.coder import compress, compress_with_any
from vcframe.metrics import psnr
from vcframe.registry import Registry
from vcframe.search import Goal, last_step_within

STEPS = [i / 350 for i in range(351)]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture(scope="module")
def photo() -> Image:
    return np.ascontiguousarray(skimage.data.chelsea()[100:164, 100:196])


def counted(codec: Codec, monkeypatch: pytest.MonkeyPatch, method: str = "encode") -> list[object]:
    """What the codec's method is called with from now on."""
    calls: list[object] = []
    real = getattr(codec, method)

    def spy(*arguments: object) -> object:
        calls.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(codec, method, spy)
    return calls


@pytest.mark.parametrize(
    ("curve", "most"),
    [
        (lambda x: 4 * (x - 0.3), 3),  # the line that is expected
        (lambda x: 7 * (x - 0.61), 4),
        (lambda x: math.exp(3 * x) - 4, 8),
        # No lines at all: no two calls in a row leave more than half, whatever the lines say.
        (lambda x: 3 * x**4 - 0.02, 20),
        (lambda x: -1.0 if x < 0.9 else 1.0, 20),
        (lambda x: 4 * (x - 0.5) + 0.003 * math.sin(900 * x), 6),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_the_last_step_within_is_found_in_few_calls(
    curve: Callable[[float], float], most: int, start: float
) -> None:
    asked: list[int] = []

    def excess(step: int) -> float:
        asked.append(step)
        return curve(STEPS[step])

    step = last_step_within(excess, STEPS, start, slope=4)
    assert curve(STEPS[step]) <= 0 < curve(STEPS[step + 1])
    assert len(asked) == len(set(asked)) <= most


def test_curves_that_do_not_cross() -> None:
    assert last_step_within(lambda step: 1.0, STEPS, 0.5, 4) == -1
    assert last_step_within(lambda step: -1.0, STEPS, 0.5, 4) == 350
    assert last_step_within(lambda step: 0.0, [0.0], 0.5, 4) == 0


def test_slack_ends_the_search_early() -> None:
    asked: list[int] = []

    def excess(step: int) -> float:
        asked.append(step)
        return 4 * (STEPS[step] - 0.5) - 0.001

    assert last_step_within(excess, STEPS, 0.5, 4, slack=0.01) == 175
    assert asked == [175]


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "webp", "hevc"])
def test_real_codecs_are_asked_few_times(
    name: str, registry: Registry, photo: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bisection needs 6 to 9 calls for the steps of these codecs, and three more past the last."""
    codec = registry.codec(name)
    calls = counted(codec, monkeypatch)
    result = compress(photo, codec, target_bpp=1.5)
    assert len(calls) == len(set(calls)) <= 6
    qualities = codec.quality_scale.steps()
    better = qualities[qualities.index(result.quality) + 1]
    assert result.bpp <= 1.5 < 8 * len(codec.encode(photo, better)) / (64 * 96)


def test_effort_is_what_it_costs(registry: Registry, photo: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = registry.codec("jpeg2000")
    calls = counted(codec, monkeypatch)
    numbers = []
    for effort in (1, 2, 3):
        calls.clear()
        for target in (600, 900, 1200, 1500):
            size = compress(photo, codec, target_bytes=target, effort=effort).num_bytes
            assert 0.98 * target <= size <= target
        numbers.append(len(calls))
    assert numbers[0] < numbers[1] == numbers[2] - 3 * 4
    with pytest.raises(UsageError, match="effort 4 is not one of 1, 2, 3"):
        compress(photo, codec, quality=30, effort=4)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_psnr_is_reached_by_the_smallest_file(name: str, registry: Registry, photo: Image) -> None:
    codec = registry.codec(name)
    result = compress(photo, codec, target_psnr=30)
    assert result.psnr_db == psnr(photo, codec.decode(result.data)) >= 30
    qualities = codec.quality_scale.steps()
    worse = qualities[qualities.index(result.quality) - 1]
    assert psnr(photo, codec.decode(codec.encode(photo, worse))) < 30


def test_a_psnr_out_of_reach_names_the_highest(registry: Registry, photo: Image) -> None:
    codec = registry.codec("jpeg")
    with pytest.raises(UsageError, match=r"jpeg cannot reach 80 dB on this picture: the highest is") as error:
        compress(photo, codec, target_psnr=80)
    best = psnr(photo, codec.decode(codec.encode(photo, 95)))
    assert f"{math.floor(100 * best) / 100:.2f} dB" in str(error.value)


def test_any_codec_is_the_best_of_them(registry: Registry, photo: Image) -> None:
    codecs = [registry.codec(name) for name in ("jpeg", "jpeg2000", "webp")]
    systems = [(codec, None) for codec in codecs]
    within = [compress(photo, codec, target_bytes=1300) for codec in codecs]
    best = compress_with_any(photo, systems, target_bytes=1300)
    assert best.num_bytes <= 1300
    assert best.psnr_db == max(psnr(photo, one.way.codec.decode(one.data)) for one in within)
    reaching = [compress(photo, codec, target_psnr=30) for codec in codecs]
    smallest = compress_with_any(photo, systems, target_psnr=30)
    assert smallest.num_bytes == min(one.num_bytes for one in reaching)


def test_a_codec_that_cannot_is_left_out(registry: Registry) -> None:
    """WebP takes no side above 16383 pixels."""
    wide = np.full((1, 20000, 3), 90, np.uint8)
    systems = [(registry.codec(name), None) for name in ("webp", "jpeg")]
    assert compress_with_any(wide, systems, target_bytes=5000).way.codec.name == "jpeg"
    with pytest.raises(UsageError, match="cannot reach 10 bytes"):
        compress_with_any(wide, systems, target_bytes=10)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "either a quality or a target"),
        ({"target_bytes": 5, "target_psnr": 30.0}, "either a quality or a target"),
        ({"target_bytes": 0}, "target 0 bytes must be above 0"),
        ({"target_psnr": -3.0}, "target -3 dB must be above 0"),
        ({"target_psnr": math.inf}, "target inf dB"),
    ],
)
def test_goals_are_checked(targets: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Goal(**targets)  # type: ignore[arg-type]

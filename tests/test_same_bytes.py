"""The same picture gives the same bytes: twice, from eight threads at once, whatever torch's threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from vcframe import Image
from vcframe.coder import Way, decompress
from vcframe.model import Model, find_model
from vcframe.registry import Registry

CODECS = ["jpeg", "jpeg2000", "webp", "hevc"]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture(scope="module")
def image() -> Image:
    """Large enough for torch to share a convolution among threads."""
    return np.ascontiguousarray(skimage.data.chelsea()[60:190, 60:251])


@pytest.fixture
def torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.usefixtures("torch_threads")
def test_threads_change_no_byte_and_no_pixel_by_more_than_one_level(
    name: str, registry: Registry, image: Image
) -> None:
    codec = registry.codec(name)
    model = find_model(None, codec)  # the shipped one: its description is not plain resampling
    ways = [Way(image, codec, model, scale) for scale in model.card.scales]
    qualities = [codec.quality_scale.native(unit) for unit in (0.2, 0.6)]
    jobs = [(way, quality) for way in ways for quality in qualities]

    def compress(job: tuple[Way, float]) -> bytes:
        way, quality = job
        return way.compress(quality).data

    def restore(data: bytes) -> Image:
        return decompress(data, registry, lambda *_: model).image

    files, pictures = {}, {}
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        files[num_threads] = [compress(job) for job in jobs]
        pictures[num_threads] = [restore(data) for data in files[num_threads]]
    assert files[1] == files[2]
    assert len(set(files[1])) == len(jobs)
    for one, two in zip(pictures[1], pictures[2], strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(compress, jobs * 2)) == files[1] * 2
        together = list(pool.map(restore, files[1] * 2))
    for one, two in zip(pictures[1] * 2, together, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_model_read_twice_gives_the_same_bytes(name: str, registry: Registry, image: Image) -> None:
    """Nothing hangs on the process: no hash order, no fresh random weights."""
    codec = registry.codec(name)
    path = Path(__file__).parent / "golden/model.safetensors"
    files = {Way(image, codec, Model.load(path), 2).compress(30).data for _ in range(2)}
    assert len(files) == 1

"""Training pictures: determinism, held-out part, unreadable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

from vcframe.codec import UsageError
from vcframe.dead_leaves import dead_leaves
from vcframe.learning.sources import DeadLeavesSource, augment, open_files


def _write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    picture = skimage.data.chelsea()
    for k in range(count):
        PIL.Image.fromarray(picture[k * 20 : k * 20 + 120, k * 20 : k * 20 + 120]).save(folder / f"{k}.png")


def test_dead_leaves_depend_on_the_seed_alone() -> None:
    first = dead_leaves(3, 96)
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, dead_leaves(3, 96))
    assert not np.array_equal(first, dead_leaves(4, 96))


def test_dead_leaves_look_like_photographs_to_a_statistician() -> None:
    """Neighbours correlate (photographs: 0.95) and differences have heavy tails (8 to 27; Gaussian: 3)."""
    pictures = [dead_leaves(k, 128).astype(float).mean(2) for k in range(4)]
    correlation = np.mean([np.corrcoef(p[:, 1:].ravel(), p[:, :-1].ravel())[0, 1] for p in pictures])
    differences = np.concatenate([np.diff(p, axis=1).ravel() for p in pictures])
    kurtosis = np.mean(differences**4) / np.mean(differences**2) ** 2
    assert correlation > 0.8
    assert kurtosis > 5


def test_held_out_part_is_the_same_whatever_the_names_and_order(tmp_path: Path) -> None:
    _write_pictures(tmp_path / "a", 6)
    one = open_files([str(tmp_path / "a")])
    (tmp_path / "b").mkdir()
    for k, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        (tmp_path / "b" / f"other{k}.png").write_bytes(path.read_bytes())
    two = open_files([str(tmp_path / "b")])
    assert len(one.validation) == 1
    assert len(one.pictures) == 5
    assert all(np.array_equal(a, b) for a, b in zip(one.validation, two.validation, strict=True))
    held_out = one.validation[0].tobytes()
    assert all(picture.tobytes() != held_out for picture in one.pictures)


def test_unreadable_files_are_counted_and_left_out(tmp_path: Path) -> None:
    _write_pictures(tmp_path, 3)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    source = open_files([str(tmp_path)])
    assert len(source.pictures) + len(source.validation) == 3
    assert "1 unreadable" in source.summary
    assert "broken.png" in source.skipped[0]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"0 readable pictures.*broken\.png"):
        open_files([str(tmp_path)])


def test_crops_have_the_side_asked_for_even_from_small_pictures() -> None:
    picture = skimage.data.coffee()[:50, :300]
    for seed in range(10):
        crop = augment(picture, 96, np.random.default_rng(seed))
        assert crop.shape == (96, 96, 3)
        assert crop.flags.c_contiguous


def test_dead_leaves_source_repeats_itself_and_never_shows_validation_pictures() -> None:
    one, two = DeadLeavesSource(5, num_workers=1), DeadLeavesSource(5, num_workers=1)
    try:
        for index in (0, 1):
            crops = [source.crop(index, 64, np.random.default_rng(index)) for source in (one, two)]
            assert np.array_equal(*crops)
        assert all(np.array_equal(a, b) for a, b in zip(one.validation, two.validation, strict=True))
        other = dead_leaves(5 * 1_000_003)
        assert not any(np.array_equal(other, v) for v in one.validation)
    finally:
        one.close()
        two.close()

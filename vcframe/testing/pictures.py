"""The pictures that a codec is shown; each call returns a fresh array, which a codec may spoil."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from vcframe.codec import Codec, Image

FLAT_COLOURS = ((200, 30, 60), (0, 0, 0), (255, 255, 255), (10, 240, 130))


def photograph(grey: bool = False) -> Image:
    """A photograph, 96 rows of 145 columns."""
    return _photo("camera")[76:172, 170:315].copy() if grey else _photo("astronaut")[56:152, 150:295].copy()


def photographs(codec: Codec) -> list[Image]:
    """In colour, and grey where the codec takes it."""
    return [photograph(), photograph(grey=True)] if codec.traits.grey else [photograph()]


def busy(grey: bool = False) -> Image:
    """A larger photograph, 192 rows of 256 columns."""
    picture = _photo("coffee")[40:232, 200:456]
    return picture[:, :, 1].copy() if grey else picture.copy()


def text() -> Image:
    """A piece of a scanned page, three equal channels."""
    return np.stack([_photo("page")[20:120, 30:190]] * 3, axis=2)


def noise() -> Image:
    """White noise, three equal channels, so that halved chroma planes lose nothing."""
    plane = np.random.default_rng(5).integers(0, 256, (64, 80, 1), np.uint8)
    return np.repeat(plane, 3, axis=2)


def flat(colour: tuple[int, int, int]) -> Image:
    """One colour, 37 rows of 21 columns."""
    return np.full((37, 21, 3), colour, np.uint8)


def corner() -> Image:
    """White in one corner of black, 45 rows of 83 columns: unlike itself turned or shifted."""
    picture = np.zeros((45, 83, 3), np.uint8)
    picture[:20, 50:] = 255
    return picture


def poured(height: int, width: int) -> Image:
    """The photograph's samples, in order, poured into another size."""
    return np.resize(photograph(), (height, width, 3))


def _photo(name: str) -> Image:
    """A photograph that scikit-image ships."""
    photos: Any = importlib.import_module("skimage.data")
    return np.asarray(getattr(photos, name)(), np.uint8)

"""What the tests of benchmark runs share: a small suite of pictures of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vcframe import Image
from vcframe.bench.suite import Suite
from vcframe.images import write_image

TOML = """
title = "A suite of one's own"
images = [{{ set = "mine", folder = "pictures", files = {{ "a.png" = "{a}", "b.png" = "{b}" }} }}]
"""

TOYS = """
import os
import time
from conftest import ToyCodec
from vcframe import CodecError, hookimpl

class Moody(ToyCodec):
    name = "moody"
    extension = ".moody"
    def encode(self, image, quality):
        if quality == 1:
            raise RuntimeError("a library's own\\nerror")
        if quality == 2:
            os._exit(3)
        if quality == 3:
            time.sleep(60)
        return super().encode(image, quality)

class Slow(ToyCodec):
    name = "slow"
    extension = ".slow"
    def encode(self, image, quality):
        time.sleep(0.1)
        return super().encode(image, quality)

class Halved:
    id = "0badcafe"
    scales = (2,)
    def describe(self, image, unit, scale):
        return image[::2, ::2].copy()
    def restore(self, decoded, unit, scale, size):
        return decoded.repeat(2, axis=0).repeat(2, axis=1)[: size[0], : size[1]]

class Nearest:
    name = "nearest"
    def networks(self, codec):
        return Halved() if codec.name == "toy" else None

@hookimpl
def vcframe_codecs():
    return [ToyCodec, Moody, Slow]

@hookimpl
def vcframe_methods():
    return [Nearest()]
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def suite_file(tmp_path: Path, photo: Image) -> Path:
    """A suite of two pictures of its own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_image(folder / "a.png", photo[:64, :96])
    write_image(folder / "b.png", photo[64:129, :97])
    path = tmp_path / "own.toml"
    path.write_text(TOML.format(a=digest(folder / "a.png"), b=digest(folder / "b.png")))
    return path


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A plugin file with codecs that cost nothing, one that fails in every way and one that is slow."""
    path = tmp_path / "toys.py"
    path.write_text(TOYS)
    return path


def extended(path: Path, text: str) -> Suite:
    """The suite with further lines."""
    path.write_text(path.read_text() + text)
    return Suite.load(path)

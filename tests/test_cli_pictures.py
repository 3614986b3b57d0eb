"""Every picture that people have, through `compress` and `decompress` with the shipped models."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import icc_profiles
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import skimage.data
from command_line import ok, refused

from vcframe import Image
from vcframe.metrics import psnr

Samples = np.ndarray[Any, Any]


@pytest.fixture
def photo() -> Image:
    """47 rows of 62 columns: every side is padded somewhere."""
    return np.ascontiguousarray(skimage.data.chelsea()[60:154:2, 120:244:2])


def grey(path: Path, photo: Image) -> Samples:
    PIL.Image.fromarray(photo[:, :, 1]).save(path)
    return photo[:, :, 1]


def colour(path: Path, photo: Image) -> Samples:
    PIL.Image.fromarray(photo).save(path)
    return photo


def one_bit(path: Path, photo: Image) -> Samples:
    bits = photo[:, :, 1] > 110
    PIL.Image.fromarray(bits).save(path)
    return np.where(bits, 255, 0)


def palette(path: Path, photo: Image) -> Samples:
    picture = PIL.Image.fromarray(photo).quantize(32)
    picture.save(path)
    colours = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
    return colours[np.asarray(picture)]


def opaque_alpha(path: Path, photo: Image) -> Samples:
    cv2.imwrite(str(path), np.dstack([photo[:, :, ::-1], np.full(photo.shape[:2], 255, np.uint8)]))
    return photo


def half_transparent(path: Path, photo: Image) -> Samples:
    """To be put onto white."""
    cv2.imwrite(str(path), np.dstack([photo[:, :, ::-1], np.full(photo.shape[:2], 128, np.uint8)]))
    return (photo * 128.0 + 255 * 127) / 255


def grey_of_16_bits(path: Path, photo: Image) -> Samples:
    cv2.imwrite(str(path), photo[:, :, 1].astype(np.uint16) * 257)
    return photo[:, :, 1]


def colour_of_16_bits(path: Path, photo: Image) -> Samples:
    cv2.imwrite(str(path), photo[:, :, ::-1].astype(np.uint16) * 257)
    return photo


def rotated(path: Path, photo: Image) -> Samples:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(photo).save(path, exif=exif)
    return np.rot90(photo, -1)


def display_p3(path: Path, photo: Image) -> Samples:
    PIL.Image.fromarray(photo).save(path, icc_profile=icc_profiles.rgb_profile("Display P3", gamma=2.2))
    return icc_profiles.to_srgb(photo, "Display P3", 2.2)


def grey_of_another_gamma(path: Path, photo: Image) -> Samples:
    PIL.Image.fromarray(photo[:, :, 1]).save(path, icc_profile=icc_profiles.grey_profile(1.5))
    return icc_profiles.srgb_levels((photo[:, :, 1] / 255.0) ** 1.5)


def cmyk(path: Path, photo: Image) -> Samples:
    inks = 255 - np.dstack([photo, np.full(photo.shape[:2], 230, np.uint8)])
    PIL.Image.fromarray(inks, "CMYK").save(path)
    return photo * (230 / 255)


def cmyk_with_a_profile(path: Path, photo: Image) -> Samples:
    inks = PIL.Image.fromarray(255 - np.dstack([photo, np.full(photo.shape[:2], 230, np.uint8)]), "CMYK")
    profile = icc_profiles.cmyk_profile()
    inks.save(path, icc_profile=profile)
    own, srgb = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)), PIL.ImageCms.createProfile("sRGB")
    return np.asarray(PIL.ImageCms.profileToProfile(inks, own, srgb, outputMode="RGB"))


KINDS = {
    ".png": [
        *(grey, colour, one_bit, palette, opaque_alpha, half_transparent, grey_of_16_bits, colour_of_16_bits),
        *(rotated, display_p3, grey_of_another_gamma),
    ],
    ".tif": [cmyk, cmyk_with_a_profile],
}


@pytest.mark.parametrize(
    ("make", "extension"), [(make, extension) for extension, makes in KINDS.items() for make in makes]
)
def test_every_kind_comes_back(
    make: Callable[[Path, Image], Samples], extension: str, photo: Image, tmp_path: Path
) -> None:
    source, restored = tmp_path / f"in{extension}", tmp_path / "out.png"
    expected = make(source, photo).round().astype(np.uint8)
    quality = ("--codec", "jpeg", "-q", 90, "--scale", 1, "--background", "white")
    ok("compress", source, tmp_path / "in.jpg", *quality)
    ok("decompress", tmp_path / "in.jpg", restored)
    with PIL.Image.open(restored) as opened:
        image = np.asarray(opened)
    assert image.shape == expected.shape
    assert psnr(image, expected) > 30


def test_what_cannot_be_coded_is_refused_with_the_remedy(photo: Image, tmp_path: Path) -> None:
    half_transparent(tmp_path / "glass.png", photo)
    frames = [PIL.Image.fromarray(photo), PIL.Image.fromarray(255 - photo)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    out = tmp_path / "out.jpg"
    options = ("--codec", "jpeg", "-q", 50)
    for name, line in (
        ("glass.png", "has transparent pixels; .* --background white"),
        ("moving.gif", "animated or multi-page .2 frames.; save the one frame"),
    ):
        assert re.search(line, refused("compress", tmp_path / name, out, *options))
    line = refused("compress", tmp_path / "glass.png", out, *options, "--background", "clear")
    assert "background 'clear' is no colour" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("codec", "scale"), [("jpeg", 1), ("jpeg", 2), ("jpeg", 4), ("webp", 1), ("webp", 2)]
)
@pytest.mark.parametrize("size", [(1, 1), (8, 16383), (5000, 3)])
def test_every_size_comes_back(codec: str, scale: int, size: tuple[int, int], tmp_path: Path) -> None:
    """Up to the widest that WebP holds."""
    y, x = np.mgrid[: size[0], : size[1]]
    picture = np.stack([np.hypot(x, y) % 251, 128 + 100 * np.sin(x / 60), 3 * y % 200], axis=2)
    source, restored = tmp_path / "in.png", tmp_path / "out.png"
    coded = tmp_path / ("in.jpg" if codec == "jpeg" else "in.webp")
    picture = cv2.GaussianBlur(picture, (0, 0), 4).astype(np.uint8)
    PIL.Image.fromarray(picture).save(source)
    ok("compress", source, coded, "--codec", codec, "-q", 90, "--scale", scale)
    ok("decompress", coded, restored)
    with PIL.Image.open(restored) as opened:
        assert opened.size == (size[1], size[0])
        assert psnr(np.asarray(opened), picture) > 30

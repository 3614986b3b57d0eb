"""Colour profiles on reading. References: published matrices and curves, LittleCMS called directly."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icc_profiles
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from vcframe import Image
from vcframe.images import read_image


@pytest.fixture
def ramp() -> Image:
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([4 * x, 5 * y, 2 * x + y], axis=2).astype(np.uint8)


def save(path: Path, picture: PIL.Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines on standard error, as a fresh process would print them."""
    monkeypatch.setattr("vcframe.registry._warned", set())
    return lambda: capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("file", ["a.png", "a.tif", "a.webp"])
def test_a_wide_gamut_picture_becomes_srgb(
    tmp_path: Path, ramp: Image, name: str, file: str, warned: Callable[[], list[str]]
) -> None:
    profile = icc_profiles.rgb_profile(name, gamma=2.2)
    options = {"lossless": True} if file == "a.webp" else {}
    path = save(tmp_path / file, PIL.Image.fromarray(ramp), icc_profile=profile, **options)
    expected = icc_profiles.to_srgb(ramp, name, 2.2)
    assert np.abs(expected - ramp).max() > 20
    assert np.abs(read_image(path) - expected).max() < 1.6
    read_image(path)
    assert warned() == ["vcframe: colours are converted to sRGB from the ICC profile 'RGB built-in'"]


def test_palette_alpha_and_orientation_are_converted_too(tmp_path: Path, ramp: Image) -> None:
    profile = icc_profiles.rgb_profile("Adobe RGB", gamma=2.2)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    palette = PIL.Image.fromarray(ramp).quantize(16)
    see_through = PIL.Image.fromarray(ramp)
    see_through.putalpha(PIL.Image.new("L", see_through.size, 128))
    for picture in (palette, see_through):
        plain = np.asarray(picture.convert("RGB"))
        path = save(tmp_path / "a.png", picture, icc_profile=profile, exif=exif)
        expected = np.rot90(icc_profiles.to_srgb(plain, "Adobe RGB", 2.2), -1)
        if picture is see_through:
            expected = (expected * 128 + 255 * 127) / 255
        assert np.abs(read_image(path, "white") - expected).max() < 1.6


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_a_grey_profile_keeps_the_picture_grey(tmp_path: Path, gamma: float) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = save(tmp_path / "a.png", PIL.Image.fromarray(grey), icc_profile=icc_profiles.grey_profile(gamma))
    expected = icc_profiles.srgb_levels((grey / 255) ** gamma)
    assert np.abs(read_image(path) - expected).max() < 0.6


def test_a_grey_picture_with_a_colour_profile_stays_grey(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    profile = icc_profiles.rgb_profile("Adobe RGB", gamma=1.8)
    path = save(tmp_path / "a.png", PIL.Image.fromarray(grey), icc_profile=profile)
    assert np.abs(read_image(path) - icc_profiles.srgb_levels((grey / 255) ** 1.8)).max() < 1.1


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_is_converted_by_its_profile(tmp_path: Path, name: str) -> None:
    ramps = np.mgrid[0:256:8, 0:256:8].astype(np.uint8)
    inks = np.stack([ramps[0], ramps[1], 255 - ramps[0], ramps[1] // 2], axis=2)
    options = {"quality": 100} if name == "a.jpg" else {}
    profile = icc_profiles.cmyk_profile()
    path = save(tmp_path / name, PIL.Image.fromarray(inks, "CMYK"), icc_profile=profile, **options)
    with PIL.Image.open(path) as opened:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb, exact = PIL.ImageCms.createProfile("sRGB"), PIL.ImageCms.Flags.NOOPTIMIZE
        expected = PIL.ImageCms.profileToProfile(opened, source, srgb, outputMode="RGB", flags=exact)
        assert expected is not None
        assert np.abs(np.asarray(expected).astype(int) - opened.convert("RGB")).max() > 50
    np.testing.assert_array_equal(read_image(path), np.asarray(expected))


@pytest.mark.parametrize("white", [icc_profiles.D65, (0.3128, 0.3291)])
def test_samples_that_are_srgb_stay_as_they_stand(
    tmp_path: Path, white: tuple[float, float], warned: Callable[[], list[str]]
) -> None:
    """The second profile differs from sRGB as such profiles do: LittleCMS would move a few samples by one."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    every = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(18, -1, 3)
    profile = icc_profiles.rgb_profile("sRGB", white, transferfunction=icc_profiles.srgb_curve(1024))
    path = save(tmp_path / "a.png", PIL.Image.fromarray(every), icc_profile=profile)
    np.testing.assert_array_equal(read_image(path), every)
    assert warned() == []


def test_a_profile_that_cannot_be_used_does_not_lose_the_picture(
    tmp_path: Path, ramp: Image, warned: Callable[[], list[str]]
) -> None:
    whole = icc_profiles.rgb_profile("Display P3", gamma=2.2)
    for number, profile in enumerate((b"junk", whole[: len(whole) // 2], icc_profiles.grey_profile(1.8))):
        path = save(tmp_path / f"{number}.png", PIL.Image.fromarray(ramp), icc_profile=profile)
        np.testing.assert_array_equal(read_image(path), ramp)
        read_image(path)
    lines = warned()
    assert len(lines) == 3
    assert all(f"{n}.png: its ICC profile is ignored: " in line for n, line in enumerate(lines))
    assert lines[2].endswith("it is for 'GRAY' samples, and these are RGB")

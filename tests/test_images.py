"""Reading, writing and finding pictures. References: OpenCV's decoders, and arithmetic written out here."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import JpegImagePlugin

from vcframe import images
from vcframe.codec import DEFAULT_MAX_PIXELS, Image, ImageError, UsageError
from vcframe.images import as_colour, find_images, luma, read_image, write_bytes, write_image


@pytest.fixture
def colour() -> Image:
    return np.random.default_rng(1).integers(0, 256, (17, 23, 3), dtype=np.uint8)


@pytest.fixture
def ramp() -> Image:
    """Smooth, and different under every flip and rotation."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([4 * x, 5 * y, 2 * x + y], axis=2).astype(np.uint8)


def save(path: Path, picture: PIL.Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


# Reading


def test_colour_png_is_read_as_opencv_reads_it(tmp_path: Path, colour: Image) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), colour[:, :, ::-1])
    image = read_image(path)
    np.testing.assert_array_equal(image, colour)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_grey_stays_one_plane(tmp_path: Path, colour: Image) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), colour[:, :, 0])
    np.testing.assert_array_equal(read_image(path), colour[:, :, 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_applies_it(
    tmp_path: Path, ramp: Image, orientation: int
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", PIL.Image.fromarray(ramp), exif=exif, quality=95, subsampling=0)
    reference = cv2.imread(str(path))[:, :, ::-1]
    image = read_image(path)
    assert image.shape == reference.shape
    assert np.abs(image.astype(int) - reference).max() <= 2


def test_16_bit_grey_png_is_rounded_to_8_bits(tmp_path: Path) -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), samples)
    np.testing.assert_array_equal(read_image(path), np.floor(samples / 257 + 0.5).astype(np.uint8))


def test_16_bit_grey_pgm_and_tiff_are_rounded_to_8_bits(tmp_path: Path) -> None:
    samples = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for name in ("a.pgm", "a.tif"):
        cv2.imwrite(str(tmp_path / name), samples)
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image, np.floor(samples / 257 + 0.5).astype(np.uint8), err_msg=name)


def test_16_bit_colour_keeps_the_upper_byte(tmp_path: Path) -> None:
    samples = np.random.default_rng(2).integers(0, 65536, (9, 11, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), samples[:, :, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), samples >> 8)


def test_one_bit_becomes_black_and_white(tmp_path: Path, colour: Image) -> None:
    bits = colour[:, :, 0] > 127
    path = save(tmp_path / "a.png", PIL.Image.fromarray(bits))
    np.testing.assert_array_equal(read_image(path), np.where(bits, 255, 0))


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    palette = np.array([[255, 0, 0], [0, 200, 10], [1, 2, 3]], dtype=np.uint8)
    picture = PIL.Image.fromarray(indices, "P")
    picture.putpalette(palette.tobytes())
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", picture)), palette[indices])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.random.default_rng(3).integers(0, 256, (9, 11, 4), dtype=np.uint8)
    path = save(tmp_path / "a.tif", PIL.Image.fromarray(inks, "CMYK"))
    light = 255.0 - inks
    expected = light[:, :, :3] * light[:, :, 3:] / 255
    assert np.abs(read_image(path) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_is_dropped(tmp_path: Path, colour: Image, mode: str) -> None:
    base = PIL.Image.fromarray(colour).convert(mode.rstrip("A"))
    path = save(tmp_path / "a.png", base.convert(mode))
    np.testing.assert_array_equal(read_image(path), np.asarray(base))


def _transparent_rgba(colour: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(colour).convert("RGBA")
    picture.putpixel((3, 4), (1, 2, 3, 254))
    return picture


def _transparent_palette(colour: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(colour).quantize(8)
    picture.info["transparency"] = 2
    return picture


def _transparent_key(colour: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(colour)
    picture.info["transparency"] = tuple(int(v) for v in colour[0, 0])
    return picture


def _transparent_16_bits(colour: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(colour[:, :, 0].astype(np.uint16) * 257)
    picture.info["transparency"] = int(colour[0, 0, 0]) * 257
    return picture


TRANSPARENT = [_transparent_rgba, _transparent_palette, _transparent_key, _transparent_16_bits]


@pytest.mark.parametrize("make", TRANSPARENT)
def test_transparency_is_refused_with_the_remedy(tmp_path: Path, colour: Image, make: Any) -> None:
    picture = make(colour)
    path = save(tmp_path / "a.png", picture, transparency=picture.info.get("transparency"))
    with pytest.raises(ImageError, match=r"a\.png: has transparent pixels; flatten it"):
        read_image(path)


@pytest.mark.parametrize("make", TRANSPARENT[:3])
def test_transparency_is_put_onto_the_background_asked_for(tmp_path: Path, colour: Image, make: Any) -> None:
    picture = make(colour)
    path = save(tmp_path / "a.png", picture, transparency=picture.info.get("transparency"))
    with PIL.Image.open(path) as opened:
        over = np.asarray(opened.convert("RGBA"))
    share = over[:, :, 3:] / 255
    assert share.min() < 1
    expected = over[:, :, :3] * share + np.array([0x33, 0x66, 0x99]) * (1 - share)
    assert np.abs(read_image(path, "#336699") - expected).max() <= 0.51


def test_grey_over_a_grey_stays_grey_and_over_a_colour_does_not(tmp_path: Path, colour: Image) -> None:
    picture = _transparent_16_bits(colour)
    path = save(tmp_path / "a.png", picture, transparency=picture.info["transparency"])
    grey = colour[:, :, 0]
    hole = grey == grey[0, 0]
    np.testing.assert_array_equal(read_image(path, "white"), np.where(hole, 255, grey))
    over_red = read_image(path, "red")
    np.testing.assert_array_equal(over_red[hole], [[255, 0, 0]] * int(hole.sum()))
    np.testing.assert_array_equal(over_red[~hole], as_colour(grey)[~hole])


@pytest.mark.parametrize("name", ["whitish", "#12345678", ""])
def test_a_background_that_is_no_colour_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"background '{name}' is no colour; give a CSS name or #rrggbb"):
        read_image(tmp_path / "never opened.png", name)


def test_floating_point_samples_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", PIL.Image.fromarray(np.ones((4, 5), np.float32)))
    with pytest.raises(ImageError, match=r"a\.tif: 32-bit samples .* save it as 8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_more_than_one_frame_is_refused(tmp_path: Path, colour: Image, name: str) -> None:
    frames = [PIL.Image.fromarray(colour), PIL.Image.fromarray(255 - colour)]
    path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"animated or multi-page \(2 frames\)"):
        read_image(path)


def test_the_first_picture_of_a_phone_jpeg_with_a_second_one_is_read(tmp_path: Path, ramp: Image) -> None:
    frames = [PIL.Image.fromarray(ramp), PIL.Image.fromarray(ramp[:24, :32])]
    path = save(tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    assert read_image(path).shape == ramp.shape


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_one_line_with_path_and_reason(
    tmp_path: Path, colour: Image, name: str, part: float
) -> None:
    path = save(tmp_path / name, PIL.Image.fromarray(colour))
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_name_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: cannot be read: No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_text_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ImageError, match="not a picture in a format that Pillow reads"):
        read_image(tmp_path / "a.png")


def test_more_pixels_than_the_limit_are_refused_from_the_header_without_a_warning(tmp_path: Path) -> None:
    width, height = 40_000, DEFAULT_MAX_PIXELS // 40_000 + 1
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=f"{width}x{height} pixels, more than the {DEFAULT_MAX_PIXELS}"):
            read_image(tmp_path / "a.png")


def test_pillows_lower_limit_does_not_apply_and_is_restored(
    tmp_path: Path, colour: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", PIL.Image.fromarray(colour))
    for limit in (100, 300):  # an error and a warning for these 391 pixels
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(path).shape == colour.shape
        assert limit == PIL.Image.MAX_IMAGE_PIXELS


# Writing


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "a.webp", "a.tif", "a.tiff"])
def test_lossless_formats_return_every_sample(tmp_path: Path, colour: Image, name: str) -> None:
    write_image(tmp_path / name, colour)
    np.testing.assert_array_equal(read_image(tmp_path / name), colour)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / name))[:, :, ::-1], colour)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_grey_is_written(tmp_path: Path, colour: Image, name: str) -> None:
    write_image(tmp_path / name, colour[:, :, 0])
    expected = as_colour(colour[:, :, 0]) if name == "a.webp" else colour[:, :, 0]
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_jpeg_is_quality_95_without_chroma_subsampling(tmp_path: Path, ramp: Image) -> None:
    write_image(tmp_path / "a.jpg", ramp)
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        assert isinstance(picture, JpegImagePlugin.JpegImageFile)
        assert JpegImagePlugin.get_sampling(picture) == 0
        assert picture.quantization[0][0] == 2  # 16 * (200 - 2 * 95) / 100, rounded


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif"])
def test_unknown_extension_is_refused_before_writing(tmp_path: Path, colour: Image, name: str) -> None:
    with pytest.raises(ImageError, match=r"cannot write extension .* use one of \.png, \.webp"):
        write_image(tmp_path / name, colour)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(4, 5, 4), (4, 5, 1), (4,), (0, 5), (1, 4, 5, 3)])
def test_arrays_that_are_no_picture_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="a picture is uint8"):
        write_image(tmp_path / "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match="got float32"):
        write_image(tmp_path / "a.png", np.zeros((4, 5), np.float32))  # type: ignore[arg-type]


def test_a_side_that_the_format_cannot_hold_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.webp: WEBP cannot hold 17000x1"):
        write_image(tmp_path / "a.webp", np.zeros((1, 17000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(images.os, "replace", fail)
    expected = ImageError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(
        expected, match=r"cannot write .*a\.png: No space" if expected is ImageError else None
    ):
        write_bytes(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert target.read_bytes() == b"old"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the folder .*none does not exist"):
        write_bytes(tmp_path / "none" / "a.png", b"x")
    with pytest.raises(ImageError, match="Is a directory"):
        write_bytes(tmp_path, b"x")


def test_links_are_followed_and_devices_survive(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    reader, writer = os.pipe()
    write_bytes(Path(f"/dev/fd/{writer}"), b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    os.close(writer)


# Finding


def test_folders_files_and_globs_are_found_once_and_sorted(tmp_path: Path) -> None:
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/c.webp",
        "sub/deep/d.tif",
        ".hidden.png",
        ".cache/e.png",
        "notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    everything = [tmp_path / n for n in ("a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.tif")]
    assert find_images([tmp_path]) == everything
    assert find_images([str(tmp_path / "*.jpg"), tmp_path / "b.jpg"]) == [tmp_path / "b.jpg"]
    assert find_images([str(tmp_path / "**" / "*.tif")]) == [tmp_path / "sub/deep/d.tif"]
    assert find_images([str(tmp_path / "s*")]) == everything[2:]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    assert find_images([tmp_path / "sub", tmp_path]) == everything


def test_a_name_with_glob_characters_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"")
    assert find_images([tmp_path / "a[1].png"]) == [tmp_path / "a[1].png"]


@pytest.mark.parametrize("name", ["none.png", "*.png", "empty"])
def test_a_source_that_matches_nothing_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="no pictures in .*" + name.replace("*", r"\*")):
        find_images([tmp_path / "a.jpg", tmp_path / name])


# Conversions


def test_luma_is_rounded_full_range_bt601(colour: Image) -> None:
    exact = colour @ np.array([0.299, 0.587, 0.114])
    difference = np.abs(luma(colour) - exact)
    assert difference.max() < 0.51
    assert luma(colour).shape == colour.shape[:2]
    grey = colour[:, :, 0]
    assert luma(grey) is grey


def test_as_colour_repeats_grey_and_keeps_colour(colour: Image) -> None:
    wide = as_colour(colour[:, :, 1])
    assert wide.flags.c_contiguous
    for channel in range(3):
        np.testing.assert_array_equal(wide[:, :, channel], colour[:, :, 1])
    assert as_colour(colour) is colour


def test_tensors_are_bchw_in_0_to_1_and_come_back(colour: Image) -> None:
    import torch

    x_BCHW = images.to_tensor([colour, 255 - colour])
    assert x_BCHW.shape == (2, 3, 17, 23)
    assert x_BCHW.dtype == torch.float32
    assert x_BCHW.is_contiguous()
    assert x_BCHW[0, 2, 5, 7].item() == pytest.approx(colour[5, 7, 2] / 255, abs=1e-7)
    np.testing.assert_array_equal(images.to_image(x_BCHW[1]), 255 - colour)
    grey = images.to_tensor([colour[:, :, 0]])
    assert grey.shape == (1, 1, 17, 23)
    np.testing.assert_array_equal(images.to_image(grey[0]), colour[:, :, 0])


def test_to_image_clips_and_rounds() -> None:
    import torch

    x_CHW = torch.tensor([[[-0.3, 1.7, 100.4 / 255, 100.6 / 255]]])
    assert images.to_image(x_CHW).tolist() == [[0, 255, 100, 101]]


def test_reading_and_writing_load_no_torch(tmp_path: Path, colour: Image) -> None:
    path = save(tmp_path / "a.png", PIL.Image.fromarray(colour))
    code = (
        "import sys; from pathlib import Path; from vcframe.images import *; path = Path(sys.argv[1]); "
        "write_image(path, luma(read_image(path))); find_images([path]); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

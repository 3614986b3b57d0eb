"""Read and write picture files; orientation, colour, and uint8 HWC to float BCHW and back.

Pictures between modules are `Image`: C-contiguous `uint8`, `(H, W, 3)` sRGB or `(H, W)` grey, 0..255.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import secrets
import stat
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcframe.codec import DEFAULT_MAX_PIXELS, Image, ImageError, UsageError
from vcframe.registry import warn_once

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageCms
    import torch

_PILLOW_LIMIT_LOCK = threading.Lock()

# Extra frames of these formats are a depth or gain map, or layers: the first frame is the picture.
_FIRST_FRAME_IS_THE_PICTURE = {"MPO", "PSD"}

_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True, "quality": 75, "method": 4}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0, "optimize": True}),
}


WRITABLE_EXTENSIONS = tuple(_WRITERS)
"""What `write_image` writes."""


def read_image(path: Path, background: str | None = None) -> Image:
    """Read a picture file as `(H, W, 3)` sRGB or `(H, W)` grey, EXIF orientation applied.

    Palettes, CMYK and YCbCr become RGB; 1-bit and 16-bit grey become 8-bit grey (16 bits rounded from
    0..65535 to 0..255); 16-bit colour keeps the upper byte. Samples with an ICC profile are converted to sRGB
    by LittleCMS (perceptual), and a line on standard error names the profile; where the profile is sRGB, to
    within one level, or is broken, which is warned about, they stay as they stand. Alpha that is opaque
    everywhere is dropped; any other is put onto `background`, a CSS colour name or `#rrggbb`.

    Raises `ImageError` with path and reason: unreadable or truncated, more than `DEFAULT_MAX_PIXELS`
    pixels, animated, any transparency without a background, 32-bit or floating-point samples; `UsageError`
    for a background that is no colour.
    """
    import PIL.Image
    import PIL.ImageOps

    backdrop = None if background is None else _parse_colour(background)
    try:
        with _open_without_pixel_limit(path) as source:
            _check_size_and_frames(source)
            source.load()
            PIL.ImageOps.exif_transpose(source, in_place=True)
            picture, alpha = _in_8_bits(source)
            picture = _to_srgb(picture, source.info.get("icc_profile"), path)
            return np.array(picture if alpha is None else _flattened(picture, alpha, backdrop))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture in a format that Pillow reads") from error
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise ImageError(f"{path}: cannot be read: {_one_line(reason)}") from error


def write_image(path: Path, image: Image) -> None:
    """Write `(H, W, 3)` or `(H, W)` by extension: PNG, lossless WebP, TIFF, or JPEG at quality 95 and 4:4:4.

    WebP has no grey: a grey picture is stored as three equal channels. The file appears complete or not at
    all. Raises `ImageError` for an unknown extension, an array that is no picture, or a failed write.
    """
    import PIL.Image

    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise ImageError(
            f"{path}: cannot write extension {path.suffix or '(none)'!r}; use one of {', '.join(_WRITERS)}"
        )
    colour = image.ndim == 3 and image.shape[2] == 3
    if image.dtype != np.uint8 or image.size == 0 or not (colour or image.ndim == 2):
        raise ImageError(f"{path}: a picture is uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    format_name, options = _WRITERS[path.suffix.lower()]
    buffer = io.BytesIO()
    try:
        PIL.Image.fromarray(image).save(buffer, format=format_name, **options)
    except (OSError, ValueError) as error:
        height, width = image.shape[:2]
        reason = _one_line(str(error))
        raise ImageError(f"{path}: {format_name} cannot hold {width}x{height}: {reason}") from error
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it appears complete or not at all: a neighbour is written, then renamed.

    The file has the permissions that the umask gives a new file; a link is followed; a device or pipe is
    written directly. Raises `ImageError` naming the path and the reason.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    try:
        # Asked of `path`: what a pipe's /dev/fd link resolves to is not a path.
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(data)
        else:
            _write_and_rename(target, data)
    except OSError as error:
        reason = error.strerror or str(error)
        if not target.parent.is_dir():
            reason = f"the folder {target.parent} does not exist"
        raise ImageError(f"cannot write {path}: {reason}") from error


def find_images(sources: Sequence[str | Path], extensions: Collection[str] | None = None) -> list[Path]:
    """Return the picture files of folders (recursive), single files and globs, sorted, each once.

    In folders only files with one of `extensions` count, without them those of the picture formats that
    Pillow opens, and names that start with a dot are left out; a file that is named is taken whatever it is
    called.
    Raises `UsageError` naming the source that matches nothing.
    """
    extensions = _picture_extensions() if extensions is None else extensions
    found: set[Path] = set()
    for source in sources:
        matches = _expand(source, extensions)
        if not matches:
            raise UsageError(f"no pictures in {str(source)!r}: give a folder, a picture file or a glob")
        found.update(matches)
    return sorted(found)


def luma(image: Image) -> Image:
    """Full-range BT.601 luma `(H, W)`, rounded, as Pillow's mode "L"; grey is returned as it is."""
    import PIL.Image

    return image if image.ndim == 2 else np.array(PIL.Image.fromarray(image).convert("L"))


def as_colour(image: Image) -> Image:
    """`(H, W, 3)`: a grey picture gets three equal channels; colour is returned as it is."""
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def to_tensor(images: Sequence[Image]) -> torch.Tensor:
    """Stack pictures of one shape into float32 `x_BCHW` in 0..1; grey has one channel."""
    import torch

    stacked = np.stack([image[:, :, None] if image.ndim == 2 else image for image in images])
    x_BHWC = torch.from_numpy(stacked)
    return x_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def to_image(x_CHW: torch.Tensor) -> Image:
    """Clip to 0..1 and round to `uint8`: `(H, W, 3)`, or `(H, W)` from one channel."""
    import torch

    x_HWC = x_CHW.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    image: Image = x_HWC.contiguous().cpu().numpy()
    return image[:, :, 0] if image.shape[2] == 1 else image


def _open_without_pixel_limit(path: Path) -> PIL.Image.Image:
    """Read the header. Pillow's own limit warns and refuses below ours, so it is off for this moment."""
    import PIL.Image

    with _PILLOW_LIMIT_LOCK:
        limit = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            return PIL.Image.open(path)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _check_size_and_frames(source: PIL.Image.Image) -> None:
    width, height = source.size
    if width * height > DEFAULT_MAX_PIXELS:
        raise ImageError(
            f"{width}x{height} pixels, more than the {DEFAULT_MAX_PIXELS} accepted; resize or crop it first"
        )
    num_frames = getattr(source, "n_frames", 1)
    if num_frames > 1 and source.format not in _FIRST_FRAME_IS_THE_PICTURE:
        raise ImageError(f"animated or multi-page ({num_frames} frames); save the one frame to use first")


def _in_8_bits(source: PIL.Image.Image) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    """A loaded picture in mode L, RGB or CMYK, and its alpha unless that is opaque everywhere."""
    if source.mode.startswith("I;16") or (source.mode == "I" and source.format in ("PNG", "PPM")):
        return _grey_from_16_bits(np.asarray(source), source.info.get("transparency"))
    if source.mode in ("I", "F") or source.mode.startswith(("I;", "F;")):
        raise ImageError(f"32-bit samples (mode {source.mode}) have no stated range; save it as 8 or 16 bits")
    grey = source.mode in ("1", "L", "LA", "La")
    alpha = None
    if source.has_transparency_data:
        source = source.convert("LA" if grey else "RGBA")
        alpha = _unless_opaque(source.getchannel("A"))
    mode = "L" if grey else "CMYK" if source.mode == "CMYK" else "RGB"
    return (source if source.mode == mode else source.convert(mode)), alpha


def _grey_from_16_bits(
    samples: np.ndarray[Any, Any], transparent: object
) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    import PIL.Image

    rounded = PIL.Image.fromarray(((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if not isinstance(transparent, int):
        return rounded, None
    opaque = np.where(samples == transparent, 0, 255).astype(np.uint8)
    return rounded, _unless_opaque(PIL.Image.fromarray(opaque))


def _unless_opaque(alpha: PIL.Image.Image) -> PIL.Image.Image | None:
    return None if alpha.getextrema()[0] == 255 else alpha


def _to_srgb(picture: PIL.Image.Image, icc_profile: bytes | None, path: Path) -> PIL.Image.Image:
    """From mode L, RGB or CMYK to L or RGB, by the ICC profile where there is one that can be used."""
    from PIL import ImageCms

    mode = "L" if picture.mode == "L" else "RGB"
    if icc_profile:
        try:
            picture = _convert_by_profile(picture, icc_profile)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            warn_once(f"{path}: its ICC profile is ignored: {_one_line(str(error))}")
    return picture if picture.mode == mode else picture.convert(mode)


def _convert_by_profile(picture: PIL.Image.Image, icc_profile: bytes) -> PIL.Image.Image:
    """sRGB in mode RGB, or the picture itself where its samples are sRGB already."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    space = profile.profile.xcolor_space.strip()
    mode = "L" if space == "GRAY" else space
    if picture.mode != mode and (picture.mode, mode) != ("L", "RGB"):
        raise ValueError(f"it is for {space!r} samples, and these are {picture.mode}")
    # LittleCMS's shortcuts are within a level for RGB, but up to 10 and 19 levels off for grey and CMYK.
    flags = ImageCms.Flags.NONE if mode == "RGB" else ImageCms.Flags.NOOPTIMIZE
    intent, srgb = ImageCms.Intent.PERCEPTUAL, ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(profile, srgb, mode, "RGB", intent, flags)
    if _changes_nothing(transform, mode):
        return picture
    name = _one_line(profile.profile.profile_description or "without a name")
    warn_once(f"colours are converted to sRGB from the ICC profile {name!r}")
    return transform.apply(picture if picture.mode == mode else picture.convert(mode))


def _changes_nothing(transform: PIL.ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether no colour moves by more than a level: files that say sRGB differ in the last digits."""
    import PIL.Image

    if mode == "CMYK":
        return False
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    axes = (steps,) * 3 if mode == "RGB" else (np.arange(256, dtype=np.uint8),)
    colours = np.stack(np.meshgrid(*axes), -1).reshape(1, -1, len(axes))
    before = PIL.Image.fromarray(colours if mode == "RGB" else colours[:, :, 0])
    after = np.asarray(transform.apply(before))
    return int(np.abs(after.astype(int) - colours).max()) <= 1


def _parse_colour(name: str) -> tuple[int, int, int]:
    import PIL.ImageColor

    with contextlib.suppress(ValueError):
        colour = PIL.ImageColor.getrgb(name)
        if len(colour) == 3:
            return colour
    raise UsageError(f"background {name!r} is no colour; give a CSS name or #rrggbb")


def _flattened(
    picture: PIL.Image.Image, alpha: PIL.Image.Image, backdrop: tuple[int, int, int] | None
) -> PIL.Image.Image:
    """The picture over one colour; a grey picture stays grey over a grey."""
    import PIL.Image

    if backdrop is None:
        raise ImageError(
            "has transparent pixels; flatten it onto a background first (compress: --background white)"
        )
    if picture.mode == "L" and len(set(backdrop)) > 1:
        picture = picture.convert("RGB")
    colour = backdrop if picture.mode == "RGB" else backdrop[0]
    return PIL.Image.composite(picture, PIL.Image.new(picture.mode, picture.size, colour), alpha)


def _write_and_rename(target: Path, data: bytes) -> None:
    # os.open, not tempfile: tempfile's 0600 would survive the rename and hide the file from other users.
    temporary = target.parent / f".vcframe-{secrets.token_hex(8)}.part"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _expand(source: str | Path, extensions: Collection[str]) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        return list(_files_below(path, extensions))
    if path.exists():
        return [path]
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    folders = [match for match in matches if match.is_dir()]
    files = [match for match in matches if not match.is_dir()]
    return files + [file for folder in folders for file in _files_below(folder, extensions)]


def _files_below(folder: Path, extensions: Collection[str]) -> Iterable[Path]:
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in extensions:
                yield Path(parent) / file


def _picture_extensions() -> set[str]:
    """Extensions of the still-picture formats that Pillow opens; its documents and videos left out."""
    import PIL.Image

    return {
        extension
        for extension, name in PIL.Image.registered_extensions().items()
        if name in PIL.Image.OPEN and PIL.Image.MIME.get(name, "").startswith("image/")
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())

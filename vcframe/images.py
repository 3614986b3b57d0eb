"""Read and write picture files; orientation, colour, and uint8 HWC to float BCHW and back.

Pictures between modules are `Image`: C-contiguous `uint8`, `(H, W, 3)` RGB or `(H, W)` grey, 0..255.
Colour profiles (ICC) are not applied: samples are taken as they stand in the file.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    import PIL.Image
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


def read_image(path: Path) -> Image:
    """Read a picture file as `(H, W, 3)` RGB or `(H, W)` grey, EXIF orientation applied.

    Palettes, CMYK and YCbCr become RGB; 1-bit and 16-bit grey become 8-bit grey (16 bits rounded from
    0..65535 to 0..255); 16-bit colour keeps the upper byte. Alpha that is opaque everywhere is dropped.

    Raises `ImageError` with path and reason: unreadable or truncated, more than `DEFAULT_MAX_PIXELS`
    pixels, animated, any transparency, 32-bit or floating-point samples.
    """
    import PIL.Image
    import PIL.ImageOps

    try:
        with _open_without_pixel_limit(path) as source:
            _check_size_and_frames(source)
            source.load()
            return _samples(PIL.ImageOps.exif_transpose(source), source.format)
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


def _samples(source: PIL.Image.Image, file_format: str | None) -> Image:
    """The samples of a loaded Pillow image as 8-bit RGB or grey."""
    if source.mode.startswith("I;16") or (source.mode == "I" and file_format in ("PNG", "PPM")):
        return _grey_from_16_bits(np.asarray(source), source.info.get("transparency"))
    if source.mode in ("I", "F") or source.mode.startswith(("I;", "F;")):
        raise ImageError(f"32-bit samples (mode {source.mode}) have no stated range; save it as 8 or 16 bits")
    grey = source.mode in ("1", "L", "LA", "La")
    if source.has_transparency_data:
        source = source.convert("LA" if grey else "RGBA")
        if source.getchannel("A").getextrema()[0] != 255:
            raise ImageError("has transparent pixels; flatten it onto a background first")
    return np.array(source.convert("L" if grey else "RGB"))


def _grey_from_16_bits(samples: np.ndarray[Any, Any], transparent: object) -> Image:
    if isinstance(transparent, int) and bool((samples == transparent).any()):
        raise ImageError("has transparent pixels; flatten it onto a background first")
    rounded: Image = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return rounded


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

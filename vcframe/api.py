"""`vcframe.compress`, `vcframe.decompress` and `vcframe.open`: pictures to files and back, from Python."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcframe import coder
from vcframe.codec import DEFAULT_MAX_PIXELS, Codec, Image, ImageError, UsageError
from vcframe.registry import Registry

if TYPE_CHECKING:
    from vcframe.model import Model

__all__ = ["compress", "decompress", "open"]


def compress(
    image: Image,
    codec: str | Codec,
    *,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    scale: int | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    plain: bool = False,
    device: str = "cpu",
) -> bytes:
    """The picture as a file of the codec, from which `decompress` restores more than a viewer shows.

    `image` is `uint8`, `(H, W, 3)` RGB or `(H, W)` grey. `codec` is a `Codec` with options of its own, or a
    name: then it has the options that the model was trained with. Give exactly one of `quality`, on the
    codec's own scale, `target_bytes`, `target_bpp`, bits of the whole file per pixel of `image`, and
    `target_psnr`, dB of the restored picture. Without `scale` the encoder chooses full size, half size or the
    plain codec, within the bytes of the target, or of the codec alone at `quality`; for a PSNR it takes the
    smallest file that reaches it. `model` is a loaded one, a file or an id;
    without it the installed model of the codec is used, and with `plain` none. `device` is where the networks
    run, `cpu` or `cuda`. The same arguments give the same bytes, from any thread.

    Raises `UsageError` for a bad value, `ImageError` for an array that is no picture, `PluginError` for a
    codec that is not installed, `ModelError` for a missing model, `CodecError` if the codec fails: each a
    `VcframeError`.

    >>> import numpy as np
    >>> import vcframe
    >>> image = np.full((64, 96, 3), (200, 120, 40), np.uint8)
    >>> data = vcframe.compress(image, codec="webp", quality=40)
    >>> data[:4], len(data) < 200
    (b'RIFF', True)
    """
    _check_picture(image)
    if plain and model is not None:
        raise UsageError("give either plain or a model")
    named = registry().codec(codec) if isinstance(codec, str) else codec
    found = None if plain else _find_model(model, named, device)
    if isinstance(codec, str) and found is not None and found.card.codec_name == named.name:
        named = registry().codec_from_config(found.card.codec)
    return coder.compress(
        image,
        named,
        quality=quality,
        target_bytes=target_bytes,
        target_bpp=target_bpp,
        target_psnr=target_psnr,
        model=found,
        scale=None if plain else scale,
    ).data


def decompress(
    data: bytes,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    device: str = "cpu",
) -> Image:
    """The picture in a file: restored, or decoded as it is where the file has no payload.

    The result has the size and kind of the original: `uint8`, `(H, W, 3)` RGB or `(H, W)` grey. `model`, a
    loaded one, a file or an id, is only needed where the one that the file names is not installed.

    Raises `StreamError` for a damaged file, `ModelError` for a model that is not here, `UsageError` for one
    that did not make the file, `CodecError` for a file that no codec decodes or that claims more than
    `max_pixels` pixels: each a `VcframeError`.

    >>> import numpy as np
    >>> import vcframe
    >>> image = np.full((64, 96, 3), (200, 120, 40), np.uint8)
    >>> restored = vcframe.decompress(vcframe.compress(image, codec="webp", quality=40))
    >>> restored.shape, bool(np.abs(restored.astype(int) - image).max() <= 10)
    ((64, 96, 3), True)
    """
    return coder.decompress(data, registry(), _finder(model, device), max_pixels).image


def open(
    path: str | os.PathLike[str],
    *,
    model: Model | str | os.PathLike[str] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    device: str = "cpu",
) -> Image:
    """`decompress` of a file on disk; raises `OSError` where it cannot be read, and what `decompress` raises.

    >>> import tempfile
    >>> import numpy as np
    >>> import vcframe
    >>> image = np.full((64, 96), 77, np.uint8)
    >>> with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
    ...     _ = file.write(vcframe.compress(image, codec="jpeg", target_bpp=1.0))
    ...     file.flush()
    ...     vcframe.open(file.name).shape
    (64, 96)
    """
    return decompress(Path(path).read_bytes(), model=model, max_pixels=max_pixels, device=device)


@functools.cache
def registry() -> Registry:
    """The installed plugins, found once."""
    return Registry.load()


def _finder(given: Model | str | os.PathLike[str] | None, device: str) -> Callable[[str, Codec], Model]:
    """What `coder.decompress` asks for the model of a file."""

    def find(model_id: str, codec: Codec) -> Model:
        if given is None:
            return _installed_model(model_id, device)
        model = _find_model(given, codec, device)
        if model.id != model_id:
            raise UsageError(f"the file was made with model {model_id}, and {given} is model {model.id}")
        return model

    return find


@functools.lru_cache(maxsize=8)
def _installed_model(model_id: str, device: str) -> Model:
    """An id names the weights, so a model found once can be kept."""
    return _find_model(model_id, None, device)


def _find_model(given: Model | str | os.PathLike[str] | None, codec: Codec | None, device: str) -> Model:
    from vcframe.model import Model, find_model

    if isinstance(given, Model):
        return given
    return find_model(None if given is None else os.fspath(given), codec, device)


def _check_picture(image: Image) -> None:
    is_samples = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0
    if not (is_samples and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"a picture is a uint8 array (H, W, 3) or (H, W), not {found}")

"""What the backend tests share: the codecs by the front door, photographs, and other people's decoders.

Every decoder here takes a file and returns what a viewer would show: `(H, W, 3)` RGB or `(H, W)` grey.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vcframe import Codec, Image
from vcframe.metrics import RatePoint, bd_rate
from vcframe.registry import Registry

Decoder = Callable[[bytes], Image]


@functools.cache
def registry() -> Registry:
    return Registry.load()


def make_codec(name: str, **options: Any) -> Codec:
    return registry().codec(name, **options)


EXTRAS = ["heic", "mozjpeg", "neural", "vvc"]
"""Backends whose library is an extra."""
MISSING = {name: reason for name in EXTRAS if (reason := registry().codecs[name].codec().unavailable())}
"""Of these the ones that cannot run here, with the reason."""
NAMES = ["jpeg", "jpeg2000", "webp", "hevc", "avif", "jpegxl", "h264", "av1"]
NAMES += [name for name in EXTRAS if name not in MISSING]


def skip_without(name: str) -> pytest.MarkDecorator:
    """What a file of tests for an extra's backend is marked with."""
    return pytest.mark.skipif(name in MISSING, reason=MISSING.get(name, ""))


@functools.cache
def photo(name: str) -> Image:
    """A photograph that scikit-image ships."""
    photos: Any = importlib.import_module("skimage.data")
    return np.ascontiguousarray(getattr(photos, name)())


@functools.cache
def colour() -> Image:
    """A photograph, 96 rows of 145 columns."""
    return np.ascontiguousarray(photo("astronaut")[56:152, 150:295])


@functools.cache
def grey() -> Image:
    """Another photograph, 96 rows of 145 columns."""
    return np.ascontiguousarray(photo("camera")[76:172, 170:315])


def photographs(codec: Codec) -> list[Image]:
    """Those that the codec takes."""
    return [colour(), grey()] if codec.traits.grey else [colour()]


def decode_pillow(data: bytes) -> Image:
    import PIL.Image

    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def decode_opencv(data: bytes) -> Image:
    import cv2

    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None, "OpenCV cannot read the file"
    return np.asarray(image if image.ndim == 2 else image[..., ::-1])


def decode_opencv_video(data: bytes) -> Image:
    """OpenCV's own FFmpeg and its own conversion; always RGB."""
    import cv2

    # OpenCV's type stubs know files and cameras only; it reads any buffered stream.
    source: Any = io.BytesIO(data)
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [])
    good, image = capture.read()
    assert good, "OpenCV cannot read the stream"
    assert not capture.read()[0], "OpenCV sees more than one picture"
    return np.asarray(image[..., ::-1], np.uint8)


def decode_imagecodecs(data: bytes) -> Image:
    import imagecodecs

    return np.asarray(imagecodecs.imread(data))


def decode_ffmpeg(data: bytes, name: str) -> Image:
    """The planes as FFmpeg's decoder `name` leaves them."""
    import av

    context: Any = av.CodecContext.create(name, "r")
    frames = list(context.decode(av.Packet(data))) + list(context.decode(None))
    assert len(frames) == 1
    return np.asarray(frames[0].to_ndarray(), np.uint8)


def largest_difference(a: Image, b: Image) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(np.int16) - b).max())


def bytes_saved_percent(codec: Codec, than: Codec, qualities: Sequence[float]) -> float:
    """By BD-rate over all that both cover, on the colour photograph."""
    curves = [[_point(one, quality) for quality in qualities] for one in (than, codec)]
    percent = bd_rate(curves[0], curves[1], (-math.inf, math.inf)).percent
    assert percent is not None
    return -percent


def _point(codec: Codec, quality: float) -> RatePoint:
    data = codec.encode(colour(), quality)
    error = psnr(colour(), codec.decode(data))
    return RatePoint(quality, len(data), 8 * len(data) / colour()[..., 0].size, error, math.nan)


def psnr(a: Image, b: Image) -> float:
    metrics: Any = importlib.import_module("skimage.metrics")
    return float(metrics.peak_signal_noise_ratio(a, b, data_range=255))

"""One picture through a video codec of FFmpeg (PyAV): planes, frames, and the two calls.

Colour is full-range BT.601 YCbCr, converted by OpenCV in fixed point. `chroma` is `chroma_format_idc` of
ITU-T H.264, H.265 and H.266: 0 grey, 1 for 4:2:0, 3 for 4:4:4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vcframe import CodecError, Image

FORMATS = {0: "gray", 1: "yuv420p", 3: "yuv444p"}
FULL_RANGE, BT601 = 2, 6
"""FFmpeg's AVCOL_RANGE_JPEG and AVCOL_SPC_SMPTE170M."""
WHITE = 1023 << 6
"""In 16 bits, so that the upper 10 of them are full range."""


def padded(image: Image, minimum: int, multiple: int) -> Image:
    """Extend both sides to `multiple` and to at least `minimum` by repeating the last row and column."""
    coded = [max(minimum, -(-side // multiple) * multiple) for side in image.shape[:2]]
    extra = [(0, to - side) for to, side in zip(coded, image.shape, strict=False)]
    return np.pad(image, extra + [(0, 0)] * (image.ndim - 2), mode="edge")


def to_planes(image: Any, chroma: int) -> list[Any]:
    """Luma, then Cb and Cr, in the image's type; 4:2:0 averages 2x2, with the edge repeated at odd sides."""
    import cv2

    if chroma == 0:
        return [image]
    converted = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    y, cr, cb = (np.ascontiguousarray(converted[:, :, i]) for i in range(3))
    return [y, cb, cr] if chroma == 3 else [y, _halved(cb), _halved(cr)]


def to_ten_bits(image: Image, chroma: int) -> list[Any]:
    """The planes of `to_planes` with 10 bits a sample, full range, converted in 16."""
    wide = ((image * np.uint32(WHITE) + 127) // 255).astype(np.uint16)
    return [(plane + np.uint16(32)) >> 6 for plane in to_planes(wide, chroma)]


def _halved(plane: Any) -> Any:
    wide = padded(plane, 2, 2).astype(np.uint32)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(plane.dtype)


def encode_planes(encoder: str, planes: list[Image], chroma: int, options: dict[str, str]) -> bytes:
    """What FFmpeg's `encoder` makes of one picture, in one thread; `uint16` planes have 10 bits a sample.

    Raises what PyAV raises.
    """
    from fractions import Fraction

    import av

    height, width = planes[0].shape
    sample = planes[0].dtype
    layout = FORMATS[chroma] + ("10le" if sample == np.uint16 else "")
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = width, height, layout
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.color_range, context.colorspace = FULL_RANGE, BT601
    context.thread_count = 1
    context.options = options
    frame: Any = av.VideoFrame(width, height, layout)
    frame.color_range, frame.colorspace = FULL_RANGE, BT601
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.zeros((target.height, target.line_size // sample.itemsize), sample)
        rows[:, : plane.shape[1]] = plane
        target.update(rows.view(np.uint8))
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def decode_picture(codec: str, decoder: str, data: bytes, shape: tuple[int, int, int]) -> Image:
    """The top left `(height, width, channels)` of the only picture, RGB or grey; damage is a `CodecError`."""
    import av

    try:
        context: Any = av.CodecContext.create(decoder, "r")
        # With more threads FFmpeg's VVC decoder now and then differs from itself.
        context.thread_count = 1
        context.options = {"err_detect": "explode"}
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except Exception as error:
        raise CodecError(f"{codec}: decoding failed: {error}") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise CodecError(f"{codec}: the stream is damaged or does not hold exactly one picture")
    height, width, channels = shape
    image = _from_frame(codec, frames[0], channels)[:height, :width]
    if image.shape[:2] != (height, width):
        raise CodecError(f"{codec}: header says {width}x{height}, decoded {image.shape[1]}x{image.shape[0]}")
    return np.ascontiguousarray(image)


def _from_frame(codec: str, frame: Any, channels: int) -> Image:
    """The whole picture; 4:2:0 chroma is doubled bilinearly."""
    import cv2

    name = frame.format.name.replace("yuvj", "yuv")
    layout = name.removesuffix("10le")
    if layout not in FORMATS.values() or int(frame.color_range) != FULL_RANGE:
        raise CodecError(
            f"{codec}: {frame.format.name} pictures that are not 8-bit or 10-bit full range are not supported"
        )
    # Samples of 10 bits go to the top of 16.
    sample, shift = (np.dtype(np.uint8), 0) if layout == name else (np.dtype("<u2"), 6)
    planes = []
    for plane in frame.planes:
        rows: Any = np.frombuffer(plane, sample).reshape(-1, plane.line_size // sample.itemsize)
        planes.append(rows[: plane.height, : plane.width] << shift)
    # FFmpeg's H.264 decoder adds flat chroma planes to grey pictures.
    if channels == 1:
        return _eight_bits(planes[0])
    if len(planes) != 3:
        raise CodecError(f"{codec}: the header announces colour and the picture is grey")
    y, *chroma = planes
    height, width = y.shape
    if layout == "yuv420p":
        size = 2 * chroma[0].shape[1], 2 * chroma[0].shape[0]
        doubled = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in chroma]
        chroma = [np.asarray(plane[:height, :width]) for plane in doubled]
    cb, cr = chroma
    return _eight_bits(np.asarray(cv2.cvtColor(cv2.merge([y, cr, cb]), cv2.COLOR_YCrCb2RGB)))


def _eight_bits(image: Any) -> Image:
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    return np.asarray((image * np.uint32(255) + WHITE // 2) // WHITE, np.uint8)


def missing(encoder: str, library: str) -> str | None:
    """Why PyAV's `encoder` cannot run here, and what to install."""
    try:
        import av
        import cv2  # noqa: F401

        av.CodecContext.create(encoder, "w")
    except Exception as error:
        packages = "pip install av opencv-python-headless"
        return f"PyAV with {library} or OpenCV is missing ({error}); install with: {packages}"
    return None


def versions() -> str:
    """FFmpeg's decoders and PyAV."""
    import av

    number = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"libavcodec {number} (PyAV {av.__version__})"

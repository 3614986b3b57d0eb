"""HEVC still pictures through PyAV (FFmpeg with libx265), in memory, as raw Annex B byte streams.

Clause and syntax names are those of ITU-T H.265. The encoder sees the picture extended to a multiple of 8 by
repeating its edge; the sequence parameter set's conformance window says what to show, so any player crops.

Every file ends with a closing NAL unit of 6 bytes: FFmpeg conceals a missing end without a word, so a file
without it is known to be truncated. Its one byte also holds what the conformance window, which counts chroma
samples, cannot say: whether a side is odd in 4:2:0. Payloads travel in a NAL unit before it. Both have
unspecified types (table 7-1), which decoders drop; of these, 56 and up may follow the picture, and FFmpeg
reads 62 and 63 as Dolby Vision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

START = b"\0\0\1"
SPS, CLOSING_TYPE, PAYLOAD_TYPE = 33, 56, 57
CLOSING = START + bytes([CLOSING_TYPE << 1, 1])
PAYLOAD = START + bytes([PAYLOAD_TYPE << 1, 1])
PAYLOAD_MARK = b"vc"
# x265 shrinks its coding tree unit with the picture, and levels 5 and up do not allow units of 16.
MIN_CODED_SIDE, CODED_MULTIPLE = 32, 8
FORMATS = {0: "gray", 1: "yuv420p", 3: "yuv444p"}


@dataclass(frozen=True)
class HevcOptions(Codec.Options):
    """Settings that change the bytes; grey pictures are always 4:0:0."""

    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """4:2:0 halves both sides of the chroma planes by averaging 2x2 and doubles them bilinearly."""
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = "slow"
    """`slow` and `psnr` save about 5 % of the bytes at low rates and take 1.6 times as long."""
    tune: Literal["none", "psnr"] = "psnr"
    """`psnr` switches x265's psycho-visual decisions off."""


class HevcCodec(Codec):
    """One intra picture, 8 bits, grey or full-range BT.601 YCbCr (OpenCV's fixed-point conversion)."""

    name = "hevc"
    extension = ".hevc"
    aliases = (".h265", ".265")
    quality_scale = QualityScale(
        0, 51, 1, (51, 48, 45, 42, 38, 35, 30, 26, 21, 15, 9, 0), "quantisation parameter QP, lower is better"
    )
    traits = Traits(max_side=16384, block=8, speed="medium")
    Options = HevcOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code as one IDR picture at the constant QP `quality`."""
        image = self.check_image(image)
        qp = int(self.quality_scale.check(quality))
        height, width = image.shape[:2]
        chroma = 0 if image.ndim == 2 else {"4:2:0": 1, "4:4:4": 3}[self.options.chroma]
        try:
            # chromaloc=1: chroma samples lie in the middle of the four that were averaged (figure E.1).
            siting = ":chromaloc=1" if chroma == 1 else ""
            planes = _to_planes(_padded(image), chroma)
            data = self._encode(planes, FORMATS[chroma], f"qp={qp}:info=0{siting}")
        except Exception as error:
            raise CodecError(f"hevc: encoding failed: {error}") from error
        odd = (width % 2, height % 2) if chroma == 1 else (0, 0)
        units = [
            _with_window(unit, width + odd[0], height + odd[1]) if _type(unit) == SPS else unit
            for unit in _units(data)
        ]
        return b"".join(units) + CLOSING + bytes([0x80 | odd[0] << 1 | odd[1]])

    def _encode(self, planes: Image, pixel_format: str, parameters: str) -> bytes:
        from fractions import Fraction

        import av

        context: Any = av.CodecContext.create("libx265", "w")
        frame = av.VideoFrame.from_ndarray(planes, format=pixel_format)
        context.width, context.height, context.pix_fmt = frame.width, frame.height, pixel_format
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.thread_count = 1
        tune = {} if self.options.tune == "none" else {"tune": self.options.tune}
        context.options = {
            "preset": self.options.preset,
            **tune,
            # ipratio=1: else x265 codes intra pictures 3 steps below the QP it is given.
            "x265-params": "log-level=none:keyint=1:bframes=0:rc-lookahead=0:lookahead-slices=0:ipratio=1"
            ":pools=none:frame-threads=1:wpp=0:repeat-headers=1:aud=0:hrd=0:vui-timing-info=0"
            f":range=full:colormatrix=smpte170m:{parameters}",
        }
        return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])

    def decode(self, data: bytes) -> Image:
        """Decode with FFmpeg's own decoder; damage that it notices is an error."""
        import av

        height, width, channels = self.check_stream(data)
        try:
            context: Any = av.CodecContext.create("hevc", "r")
            context.thread_count = 1
            context.options = {"err_detect": "explode"}
            frames = [*context.decode(av.Packet(data)), *context.decode(None)]
        except Exception as error:
            raise CodecError(f"hevc: decoding failed: {error}") from error
        if len(frames) != 1 or frames[0].is_corrupt:
            raise CodecError("hevc: the stream is damaged or does not hold exactly one picture")
        image = _from_frame(frames[0])[:height, :width]
        if image.shape[:2] != (height, width) or image.ndim != (2 if channels == 1 else 3):
            raise CodecError(f"hevc: header says {width}x{height}, decoded {image.shape[1]}x{image.shape[0]}")
        return np.ascontiguousarray(image)

    def version(self) -> str:
        """x265 names itself in the stream when asked to."""
        import av

        data = self._encode(np.zeros((32, 32), np.uint8), "gray", "qp=51:info=1")
        build = re.search(rb"x265 \(build \d+\) - ([^:\s]+)", data)
        number = ".".join(map(str, av.library_versions["libavcodec"]))
        name = build.group(1).decode() if build else "(unknown)"
        return f"x265 {name}, libavcodec {number} (PyAV {av.__version__})"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the sequence parameter set."""
        odd = _without_closing(data)[1][-1]
        headers = [_parse_sps(unit) for unit in _units(data) if _type(unit) == SPS]
        if len(headers) != 1:
            raise CodecError(f"hevc: {len(headers)} sequence parameter sets found instead of one")
        (header,) = headers
        width, height = header.width, header.height
        if header.chroma == 1:
            width, height = width - (odd >> 1 & 1), height - (odd & 1)
        hidden = max(header.coded_width - width, header.coded_height - height)
        # A small window on a huge picture would pass the pixel limit.
        if max(width, height) > self.traits.max_side or hidden >= MIN_CODED_SIDE:
            raise CodecError(
                f"hevc: {header.coded_width}x{header.coded_height} coded pixels for {width}x{height} shown"
            )
        return height, width, 1 if header.chroma == 0 else 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a NAL unit of unspecified type."""
        head, closing = _without_closing(data)
        # The last byte of a NAL unit must not be zero.
        return head + PAYLOAD + _escape(PAYLOAD_MARK + payload + b"\x80") + closing

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our NAL unit, the last but one."""
        try:
            head, closing = _without_closing(data)
        except CodecError:
            return None
        start = head.rfind(START)
        body = _body(head[max(start, 0) :])
        if not (head.startswith(PAYLOAD, start) and body.startswith(PAYLOAD_MARK) and body.endswith(b"\x80")):
            return None
        return head[:start] + closing, body[len(PAYLOAD_MARK) : -1]

    def unavailable(self) -> str | None:
        """PyAV with libx265, and OpenCV for the colour conversion, are needed."""
        try:
            import av
            import cv2  # noqa: F401

            av.CodecContext.create("libx265", "w")
        except Exception as error:
            packages = "pip install av opencv-python-headless"
            return f"PyAV with libx265 or OpenCV is missing ({error}); install with: {packages}"
        return None


def _padded(image: Image) -> Image:
    """Extend to the coded size by repeating the last row and column."""
    coded = [max(MIN_CODED_SIDE, -(-side // CODED_MULTIPLE) * CODED_MULTIPLE) for side in image.shape[:2]]
    extra = [(0, to - side) for to, side in zip(coded, image.shape, strict=False)]
    return np.pad(image, extra + [(0, 0)] * (image.ndim - 2), mode="edge")


def _to_planes(image: Image, chroma: int) -> Image:
    """The array that PyAV takes for the format: `(H, W)`, `(3, H, W)`, or `(1.5 H, W)` for 4:2:0."""
    import cv2

    if chroma == 0:
        return image
    converted = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), np.uint8)
    y, cr, cb = (np.ascontiguousarray(converted[:, :, i]) for i in range(3))
    if chroma == 3:
        return np.stack([y, cb, cr])
    small = [_halved(plane).reshape(-1, image.shape[1]) for plane in (cb, cr)]
    return np.concatenate([y, *small])


def _halved(plane: Image) -> Image:
    wide = plane.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _from_frame(frame: Any) -> Image:
    """The picture of a decoded frame, RGB or grey."""
    import cv2

    full_range = int(frame.color_range) == 2
    if frame.format.name not in ("gray", "yuv420p", "yuvj420p", "yuv444p", "yuvj444p") or not full_range:
        raise CodecError(
            f"hevc: {frame.format.name} pictures that are not 8-bit full range are not supported"
        )
    planes: Image = frame.to_ndarray()
    if frame.format.name == "gray":
        return planes
    width, height = frame.width, frame.height
    if "444" in frame.format.name:
        y, cb, cr = planes
    else:
        y = planes[:height]
        halves = planes[height:].reshape(2, height // 2, width // 2)
        cb, cr = (cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR) for half in halves)
    return np.asarray(cv2.cvtColor(cv2.merge([y, cr, cb]), cv2.COLOR_YCrCb2RGB), np.uint8)


def _without_closing(data: bytes) -> tuple[bytes, bytes]:
    """Split off the closing unit."""
    size = len(CLOSING) + 1
    if not data.startswith(CLOSING, len(data) - size) or not data[-1] & 0x80:
        raise CodecError("hevc: the file is truncated, or was not written by this codec: no closing unit")
    return data[:-size], data[-size:]


def _units(data: bytes) -> Iterator[bytes]:
    """Split an Annex B byte stream into NAL units, start codes included; joined they are `data` again."""
    start = data.find(START)
    begin = 0
    while start >= 0:
        following = data.find(START, start + 3)
        end = len(data) if following < 0 else following
        # A four-byte start code belongs to the unit that it starts.
        if following > 0 and data[end - 1] == 0:
            end -= 1
        yield data[begin:end]
        begin, start = end, following


def _type(unit: bytes) -> int:
    position = unit.find(START) + 3
    return unit[position] >> 1 & 63 if position < len(unit) else -1


def _body(unit: bytes) -> bytes:
    """The payload after the two-byte header, emulation prevention removed (clause 7.3.1.1)."""
    return unit[unit.find(START) + 5 :].replace(b"\0\0\3", b"\0\0")


def _escape(body: bytes) -> bytes:
    """Insert emulation prevention bytes (clause 7.4.2)."""
    out = bytearray()
    zeros = 0
    for byte in body:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


@dataclass(frozen=True)
class _Header:
    """What a sequence parameter set says, and the bits around its conformance window."""

    width: int
    height: int
    chroma: int
    coded_width: int
    coded_height: int
    before: str
    after: str


def _parse_sps(unit: bytes) -> _Header:
    """Parse clause 7.3.2.2 up to the bit depths."""
    body = _body(unit[:4096])
    bits = "".join(f"{byte:08b}" for byte in body)
    try:
        return _read_sps(bits)
    except (ValueError, IndexError) as error:
        raise CodecError("hevc: the sequence parameter set is damaged") from error


def _read_sps(bits: str) -> _Header:
    position = 0

    def fixed(count: int) -> int:
        nonlocal position
        position += count
        if position > len(bits):
            raise ValueError("past the end")
        return int("0" + bits[position - count : position], 2)

    def golomb() -> int:
        zeros = bits.index("1", position) - position
        fixed(zeros)
        return fixed(zeros + 1) - 1

    fixed(4)
    sub_layers = fixed(3)
    fixed(1 + 88 + 8)
    present = [fixed(2) for _ in range(8 if sub_layers else 0)][:sub_layers]
    for flags in present:
        fixed(88 * (flags >> 1) + 8 * (flags & 1))
    golomb()
    chroma = golomb()
    if chroma == 3:
        fixed(1)
    width, height = golomb(), golomb()
    window_at = position
    window = [golomb() for _ in range(4)] if fixed(1) else [0] * 4
    after = bits[position:]
    if chroma not in FORMATS or (golomb(), golomb()) != (0, 0):
        raise CodecError("hevc: only 8-bit 4:0:0, 4:2:0 and 4:4:4 pictures are supported")
    step = 2 if chroma == 1 else 1
    return _Header(
        width - step * (window[0] + window[1]),
        height - step * (window[2] + window[3]),
        chroma,
        width,
        height,
        bits[:window_at],
        after,
    )


def _with_window(unit: bytes, width: int, height: int) -> bytes:
    """Rewrite a sequence parameter set so that players show the top left `width` x `height`."""
    header = _parse_sps(unit)
    step = 2 if header.chroma == 1 else 1
    right, bottom = (header.coded_width - width) // step, (header.coded_height - height) // step
    window = "1" + "".join(_golomb(value) for value in (0, right, 0, bottom)) if right or bottom else "0"
    # Trailing bits are one 1 and zeros up to the byte (clause 7.3.2.11).
    bits = header.before + window + header.after.rstrip("0")
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    prefix = unit.find(START) + 5
    return unit[:prefix] + _escape(body)


def _golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The HEVC backend."""
    return [HevcCodec]

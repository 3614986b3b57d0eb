"""VVC (H.266) still pictures: coded by VVenC in imageio-ffmpeg's FFmpeg (the extra `vvc`), decoded in PyAV's.

Files are raw Annex B byte streams; clause and syntax names are those of ITU-T H.266. The encoder is a program
that gets the planes on its standard input and answers on its standard error, for VVenC writes remarks to the
standard output. It sees the picture extended to a multiple of 8 by repeating its edge; the conformance window
of the sequence parameter set says what to show.

A closing NAL unit and payloads travel behind the picture (`_annexb`), in unspecified types (table 5): 30 and
31, which may follow the picture.
"""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

from ._annexb import Bits, Units, header_at, split_units, unescape
from ._video import decode_picture, padded, to_ten_bits, versions

SPS, PAYLOAD_TYPE, CLOSING_TYPE = 15, 30, 31
HEADER_BYTES = 2
UNITS = Units("vvc", bytes([0, CLOSING_TYPE << 3 | 1]), bytes([0, PAYLOAD_TYPE << 3 | 1]))
MIN_CODED_SIDE, CODED_MULTIPLE = 16, 8
MAX_EXTENSION = 3
"""Coded pixels for each that padding makes necessary."""
PLANES = {0: "gray10le", 1: "yuv420p10le"}
"""FFmpeg's names of what VVenC codes, by `sps_chroma_format_idc`."""
CONSTRAINT_BITS = 71
"""Flags of `general_constraints_info` (clause 7.3.3.2) before the number of additional ones."""
START_TIMEOUT_S, PIXEL_TIMEOUT_S = 120.0, 0.001


class NoFileError(Exception):
    """FFmpeg ended without a file."""


@dataclass(frozen=True)
class VvcOptions(Codec.Options):
    """Settings that change the bytes; always 10 bits, one thread, tuned for PSNR; grey is always 4:0:0."""

    preset: Literal["faster", "fast", "medium"] = "faster"
    """`fast` saves 8 to 25 % of the bytes at low rates and takes 4 times as long, `medium` 14 times."""


class VvcCodec(Codec):
    """One intra picture, 10 bits, grey or full-range BT.601 YCbCr 4:2:0 (OpenCV's fixed-point conversion)."""

    name = "vvc"
    extension = ".vvc"
    aliases = (".h266", ".266")
    quality_scale = QualityScale(
        10,
        63,
        1,
        (63, 56, 50, 46, 42, 37, 33, 29, 25, 21, 16, 10),
        "quantisation parameter QP, lower is better",
    )
    traits = Traits(max_side=16384, block=8, speed="medium")
    Options = VvcOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code as one IDR picture at the constant QP `quality`."""
        image = self.check_image(image)
        qp = int(self.quality_scale.check(quality))
        height, width = image.shape[:2]
        odd_width, odd_height = (width % 2, height % 2) if image.ndim == 3 else (0, 0)
        coded = padded(image, MIN_CODED_SIDE, CODED_MULTIPLE)
        shown = height + odd_height, width + odd_width
        try:
            try:
                data = self._encode(coded, qp, shown)
            except NoFileError:
                # FFmpeg has room for a byte a pixel, and noise may take more: the shorter side is extended.
                short = int(coded.shape[0] > coded.shape[1])
                extra = [(0, 0)] * coded.ndim
                extra[short] = 0, (MAX_EXTENSION - 1) * coded.shape[short]
                data = self._encode(np.pad(coded, extra, mode="edge"), qp, shown)
        except Exception as error:
            raise CodecError(f"vvc: encoding failed: {error}") from error
        return UNITS.close(data, bool(odd_width), bool(odd_height))

    def _encode(self, coded: Image, qp: int, shown: tuple[int, int]) -> bytes:
        chroma = 1 if coded.ndim == 3 else 0
        height, width = coded.shape[:2]
        # intraqpoffset=0: else VVenC codes intra pictures 3 steps below the QP it is given.
        # threads=0: with a thread beside the main one VVenC writes other bytes.
        parameters = (
            "threads=0:intraqpoffset=0:poc0idr=1:accessunitdelimiter=0:decodedpicturehash=0:internalbitdepth=10"
            ":vuiparameterspresent=1:videofullrange=1:matrixcoefficients=6:conformancewindowmode=3"
            f":confwinright={width - shown[1]}:confwinbottom={height - shown[0]}"
        )
        # Chroma samples lie in the middle of the four that were averaged (ITU-T H.273).
        parameters += ":chromalocinfopresent=1:chromasampleloctype=1" if chroma else ":chromaformatidc=400"
        planes = to_ten_bits(coded, chroma)
        if not chroma:
            # FFmpeg hands over 4:2:0 only; VVenC drops what it does not code.
            planes += [np.full((height // 2, width // 2), 512, np.uint16)] * 2
        source = f"-f rawvideo -pix_fmt {PLANES[1]} -video_size {width}x{height} -framerate 25 -i pipe:0"
        coder = f"-c:v libvvenc -preset {self.options.preset} -qp {qp} -qpa 0 -g 1 -vvenc-params {parameters}"
        raw = b"".join(plane.astype("<u2").tobytes() for plane in planes)
        timeout_s = START_TIMEOUT_S + PIXEL_TIMEOUT_S * height * width
        data = _ffmpeg(f"{source} {coder} -f vvc pipe:2", raw, timeout_s).stderr
        if not data.startswith(b"\0\0\0\1"):
            raise NoFileError(f"FFmpeg answered {data[:100]!r}")
        return data

    def decode(self, data: bytes) -> Image:
        """Decode with FFmpeg's own decoder; damage that it notices is an error."""
        return decode_picture("vvc", "vvc", data, self.check_stream(data))

    def version(self) -> str:
        """VVenC names itself while it works."""
        picture = f"color=size={MIN_CODED_SIDE}x{MIN_CODED_SIDE}:rate=1:duration=1"
        log = _ffmpeg(f"-f lavfi -i {picture} -c:v libvvenc -preset faster -f null -", log="info").stderr
        build = re.search(rb"libvvenc version: (\S+)", log)
        program = re.search(rb"^ffmpeg version n?(\S+)", _ffmpeg("-version").stdout)
        names = [match.group(1).decode() if match else "(unknown)" for match in (build, program)]
        return f"VVenC {names[0]} in FFmpeg {names[1]}, {versions()}"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the sequence parameter set."""
        odd_width, odd_height = UNITS.odd(data)
        headers = [unit for unit in split_units(data) if _type(unit) == SPS]
        if len(headers) != 1:
            raise CodecError(f"vvc: {len(headers)} sequence parameter sets found instead of one")
        try:
            body = headers[0][header_at(headers[0]) + HEADER_BYTES :][:4096]
            height, width, chroma, coded = _read_sps(Bits(unescape(body)))
        except CodecError:
            raise
        except ValueError as error:
            raise CodecError("vvc: the sequence parameter set is damaged") from error
        # A small window on a huge picture would pass the pixel limit.
        least = [max(MIN_CODED_SIDE, -(-side // CODED_MULTIPLE) * CODED_MULTIPLE) for side in (height, width)]
        if max(width, height) > self.traits.max_side or math.prod(coded) > MAX_EXTENSION * math.prod(least):
            raise CodecError(f"vvc: {coded[1]}x{coded[0]} coded pixels for {width}x{height} shown")
        if chroma == 1:
            width, height = width - odd_width, height - odd_height
        return height, width, 1 if chroma == 0 else 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Insert a NAL unit of unspecified type."""
        return UNITS.embed(data, payload)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our NAL unit, the last but one."""
        return UNITS.extract(data)

    def unavailable(self) -> str | None:
        """An FFmpeg with VVenC, PyAV with a VVC decoder, and OpenCV for the colour conversion, are needed."""
        try:
            import av
            import cv2  # noqa: F401

            av.CodecContext.create("vvc", "r")
            told = _ffmpeg("-h encoder=libvvenc").stdout
        except Exception as error:
            return _missing(str(error))
        return None if b"Encoder libvvenc" in told else _missing("this FFmpeg has no libvvenc")


def _missing(reason: str) -> str:
    return (
        f"PyAV, OpenCV or an FFmpeg with libvvenc is missing ({reason}); "
        "install with: pip install 'vcframe[vvc]'"
    )


def _ffmpeg(
    arguments: str, data: bytes = b"", timeout_s: float = START_TIMEOUT_S, log: str = "fatal"
) -> subprocess.CompletedProcess[bytes]:
    """What imageio-ffmpeg's program says when fed with `data`. Raises where it fails or takes too long."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-loglevel", log]
    done = subprocess.run(
        command + arguments.split(), input=data, capture_output=True, timeout=timeout_s, check=False
    )
    if done.returncode != 0:
        told = " ".join(done.stderr.decode(errors="replace").split())
        raise NoFileError(f"FFmpeg ended with status {done.returncode}: {told[:300] or 'no message'}")
    return done


def _type(unit: bytes) -> int:
    position = header_at(unit) + 1
    return unit[position] >> 3 if position < len(unit) else -1


def _read_sps(sps: Bits) -> tuple[int, int, int, tuple[int, int]]:
    """`(height, width, chroma, (coded_height, coded_width))` of clause 7.3.2.4."""
    sps.fixed(4 + 4)
    sub_layers = sps.fixed(3)
    chroma = sps.fixed(2)
    sps.fixed(2)
    if sps.fixed(1):
        _skip_profile(sps, sub_layers)
    sps.fixed(1)
    if sps.fixed(1):
        sps.fixed(1)
    coded_width, coded_height = sps.golomb(), sps.golomb()
    left, right, top, bottom = (sps.golomb() for _ in range(4)) if sps.fixed(1) else (0, 0, 0, 0)
    if chroma not in PLANES or sps.fixed(1) or sps.golomb() != 2:
        raise CodecError("vvc: only 10-bit 4:0:0 and 4:2:0 pictures without subpictures are supported")
    step = 2 if chroma == 1 else 1
    height, width = coded_height - step * (top + bottom), coded_width - step * (left + right)
    return height, width, chroma, (coded_height, coded_width)


def _skip_profile(sps: Bits, sub_layers: int) -> None:
    """Pass `profile_tier_level` (clause 7.3.3.1), which aligns itself to bytes twice."""
    sps.fixed(7 + 1 + 8 + 1 + 1)
    if sps.fixed(1):
        sps.fixed(CONSTRAINT_BITS)
        sps.fixed(sps.fixed(8))
    sps.align()
    levels = sum(sps.fixed(1) for _ in range(sub_layers))
    sps.align()
    sps.fixed(8 * levels)
    sps.fixed(32 * sps.fixed(8))


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The VVC backend."""
    return [VvcCodec]

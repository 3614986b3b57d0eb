"""H.264 still pictures through PyAV (FFmpeg with libx264), in memory, as raw Annex B byte streams.

Clause and syntax names are those of ITU-T H.264. x264 crops by itself, to whole chroma samples. A closing NAL
unit and payloads travel behind the picture (`_annexb`), in unspecified types (table 7-1) of which RTP makes
no use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

from ._annexb import Bits, Units, header_at, split_units, unescape
from ._video import FORMATS, decode_picture, encode_planes, missing, padded, to_planes, versions

SEI, SPS, PAYLOAD_TYPE, CLOSING_TYPE = 6, 7, 30, 31
UNITS = Units("h264", bytes([CLOSING_TYPE]), bytes([PAYLOAD_TYPE]))
MACROBLOCK = 16
HIGH_PROFILES = (100, 110, 122, 244)
"""Those of still pictures that state their chroma format."""


@dataclass(frozen=True)
class H264Options(Codec.Options):
    """Settings that change the bytes; grey pictures are always 4:0:0."""

    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """4:2:0 halves both sides of the chroma planes by averaging 2x2 and doubles them bilinearly."""
    preset: Literal["superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"] = (
        "slow"
    )
    """`slow` and `psnr` save about 7 % of the bytes at low rates and take twice as long as `medium`."""
    tune: Literal["none", "psnr"] = "psnr"
    """`psnr` switches x264's psycho-visual decisions off."""


class H264Codec(Codec):
    """One intra picture, 8 bits, grey or full-range BT.601 YCbCr (OpenCV's fixed-point conversion)."""

    name = "h264"
    extension = ".h264"
    aliases = (".264", ".avc")
    # 0 would be lossless.
    quality_scale = QualityScale(
        1,
        51,
        1,
        (51, 46, 42, 39, 35, 32, 28, 24, 20, 15, 9, 1),
        "quantisation parameter QP, lower is better",
    )
    # The deblocking filter and the prediction of samples work on the macroblock's grid.
    traits = Traits(max_side=16384, block=8, speed="medium")
    Options = H264Options

    def encode(self, image: Image, quality: float) -> bytes:
        """Code as one IDR picture at the constant QP `quality`, without x264's message of 550 bytes."""
        image = self.check_image(image)
        qp = int(self.quality_scale.check(quality))
        height, width = image.shape[:2]
        chroma = 0 if image.ndim == 2 else {"4:2:0": 1, "4:4:4": 3}[self.options.chroma]
        # chromaloc=1: chroma samples lie in the middle of the four that were averaged (figure E-1).
        siting = ":chromaloc=1" if chroma == 1 else ""
        try:
            planes = to_planes(padded(image, 2, 2) if chroma == 1 else image, chroma)
            data = self._encode(planes, chroma, f"qp={qp}{siting}")
        except Exception as error:
            raise CodecError(f"h264: encoding failed: {error}") from error
        units = [unit for unit in split_units(data) if _type(unit) != SEI]
        return UNITS.close(b"".join(units), chroma == 1 and width % 2 == 1, chroma == 1 and height % 2 == 1)

    def _encode(self, planes: list[Image], chroma: int, parameters: str) -> bytes:
        tune = {} if self.options.tune == "none" else {"tune": self.options.tune}
        options = {
            "preset": self.options.preset,
            **tune,
            # ipratio=1: else x264 codes intra pictures 3 steps below the QP it is given.
            "x264-params": "log=-1:keyint=1:bframes=0:rc-lookahead=0:mbtree=0:ipratio=1:threads=1"
            f":lookahead-threads=1:sliced-threads=0:annexb=1:repeat-headers=1:{parameters}",
        }
        return encode_planes("libx264", planes, chroma, options)

    def decode(self, data: bytes) -> Image:
        """Decode with FFmpeg's own decoder; damage that it notices is an error."""
        return decode_picture("h264", "h264", data, self.check_stream(data))

    def version(self) -> str:
        """x264 names itself in the message that our files go without."""
        data = self._encode([np.zeros((16, 16), np.uint8)], 0, "qp=51")
        build = re.search(rb"x264 - core (\d+)", data)
        return f"x264 {build.group(1).decode() if build else '(unknown)'}, {versions()}"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the sequence parameter set."""
        odd_width, odd_height = UNITS.odd(data)
        headers = [unit for unit in split_units(data) if _type(unit) == SPS]
        if len(headers) != 1:
            raise CodecError(f"h264: {len(headers)} sequence parameter sets found instead of one")
        try:
            height, width, chroma, hidden = _read_sps(
                Bits(unescape(headers[0][header_at(headers[0]) + 1 :][:4096]))
            )
        except CodecError:
            raise
        except ValueError as error:
            raise CodecError("h264: the sequence parameter set is damaged") from error
        # A small window on a huge picture would pass the pixel limit.
        if max(width, height) > self.traits.max_side or hidden >= MACROBLOCK:
            raise CodecError(f"h264: {width}x{height} pixels shown of a picture {hidden} larger")
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
        """PyAV with libx264, and OpenCV for the colour conversion, are needed."""
        return missing("libx264", "libx264")


def _type(unit: bytes) -> int:
    position = header_at(unit)
    return unit[position] & 31 if position < len(unit) else -1


def _read_sps(sps: Bits) -> tuple[int, int, int, int]:
    """`(height, width, chroma, hidden)` of clause 7.3.2.1.1; `hidden` is the larger cropping."""
    profile = sps.fixed(8)
    sps.fixed(16)
    sps.golomb()
    chroma = 1
    if profile in HIGH_PROFILES:
        chroma = sps.golomb()
        separate_planes = chroma == 3 and sps.fixed(1)
        depths = sps.golomb(), sps.golomb()
        sps.fixed(1)
        scaling_matrix = sps.fixed(1)
        if chroma not in FORMATS or separate_planes or depths != (0, 0) or scaling_matrix:
            raise CodecError(
                "h264: only 8-bit 4:0:0, 4:2:0 and 4:4:4 pictures with flat matrices are supported"
            )
    sps.golomb()
    order_type = sps.golomb()
    if order_type == 0:
        sps.golomb()
    elif order_type == 1:
        raise CodecError("h264: only still pictures are supported")
    sps.golomb()
    sps.fixed(1)
    coded_width, coded_height = (MACROBLOCK * (sps.golomb() + 1) for _ in range(2))
    if not sps.fixed(1):
        raise CodecError("h264: interlaced pictures are not supported")
    sps.fixed(1)
    left, right, top, bottom = (sps.golomb() for _ in range(4)) if sps.fixed(1) else (0, 0, 0, 0)
    step = 2 if chroma == 1 else 1
    across, down = step * (left + right), step * (top + bottom)
    return coded_height - down, coded_width - across, chroma, max(across, down)


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The H.264 backend."""
    return [H264Codec]

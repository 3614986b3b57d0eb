"""HEVC still pictures through PyAV (FFmpeg with libx265), in memory, as raw Annex B byte streams.

Clause and syntax names are those of ITU-T H.265. The encoder sees the picture extended to a multiple of 8 by
repeating its edge; the sequence parameter set's conformance window says what to show, so any player crops.

A closing NAL unit and payloads travel behind the picture (`_annexb`), in unspecified types (table 7-1): of
these, 56 and up may follow the picture, and FFmpeg reads 62 and 63 as Dolby Vision.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

from ._annexb import Bits, Units, escape, header_at, split_units, unescape
from ._video import FORMATS, decode_picture, encode_planes, missing, padded, to_planes, to_ten_bits, versions

SPS, CLOSING_TYPE, PAYLOAD_TYPE = 33, 56, 57
HEADER_BYTES = 2
DEPTHS = (0, 0), (2, 2)
"""`bit_depth_luma_minus8` and `bit_depth_chroma_minus8` (clause 7.4.3.2.1)."""
UNITS = Units("hevc", bytes([CLOSING_TYPE << 1, 1]), bytes([PAYLOAD_TYPE << 1, 1]))
# x265 shrinks its coding tree unit with the picture, and levels 5 and up do not allow units of 16.
MIN_CODED_SIDE, CODED_MULTIPLE = 32, 8
RGB_CHROMA_STEPS = 6
"""A 4:2:0 sample of chroma counts 3.3 (Cr) and 4.3 (Cb) times as much as one of luma in the squared error of
RGB: four pixels, times the columns of BT.601's inverse. Half the quantiser step, 6 QP finer, evens it out."""


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
    chroma_qp: Literal["standard", "rgb"] = "standard"
    """`rgb` quantises 4:2:0 chroma for the least error in RGB: 6 QP finer than luma at every quality. The
    standard's own table does so from QP 43 on and not at all below 30, where `rgb` saves 5 % of the bytes."""
    depth: Literal[8, 10] = 8
    """Bits of a coded sample. 10 (profile Main 10) round less on the way and save about 1 % of the bytes."""
    sao: bool = True
    """Sample adaptive offset, which evens out at the decoder what a trained network evens out better."""
    strong_intra_smoothing: bool = True
    """Smoothes what blocks of 32x32 are predicted from; worth nothing by PSNR."""


class HevcCodec(Codec):
    """One intra picture, grey or full-range BT.601 YCbCr (OpenCV's fixed-point conversion)."""

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
        # chromaloc=1: chroma samples lie in the middle of the four that were averaged (figure E.1).
        siting = ":chromaloc=1" if chroma == 1 else ""
        try:
            coded = padded(image, MIN_CODED_SIDE, CODED_MULTIPLE)
            planes = to_planes(coded, chroma) if self.options.depth == 8 else to_ten_bits(coded, chroma)
            data = self._encode(planes, chroma, f"qp={qp}:info=0{siting}{self._chroma_offset(qp, chroma)}")
        except Exception as error:
            raise CodecError(f"hevc: encoding failed: {error}") from error
        odd_width, odd_height = (width % 2, height % 2) if chroma == 1 else (0, 0)
        units = [
            _with_window(unit, width + odd_width, height + odd_height) if _type(unit) == SPS else unit
            for unit in split_units(data)
        ]
        return UNITS.close(b"".join(units), bool(odd_width), bool(odd_height))

    def _chroma_offset(self, qp: int, chroma: int) -> str:
        if chroma != 1 or self.options.chroma_qp == "standard":
            return ""
        wanted = qp - RGB_CHROMA_STEPS
        offset = min(range(-RGB_CHROMA_STEPS, 7), key=lambda n: (abs(_chroma_qp(qp + n) - wanted), abs(n)))
        return f":cbqpoffs={offset}:crqpoffs={offset}"

    def _encode(self, planes: list[Image], chroma: int, parameters: str) -> bytes:
        tune = {} if self.options.tune == "none" else {"tune": self.options.tune}
        options = {
            "preset": self.options.preset,
            **tune,
            # ipratio=1: else x265 codes intra pictures 3 steps below the QP it is given.
            "x265-params": "log-level=none:keyint=1:bframes=0:rc-lookahead=0:lookahead-slices=0:ipratio=1"
            ":pools=none:frame-threads=1:wpp=0:repeat-headers=1:aud=0:hrd=0:vui-timing-info=0"
            f":sao={self.options.sao:d}:strong-intra-smoothing={self.options.strong_intra_smoothing:d}"
            f":{parameters}",
        }
        return encode_planes("libx265", planes, chroma, options)

    def decode(self, data: bytes) -> Image:
        """Decode with FFmpeg's own decoder; damage that it notices is an error."""
        return decode_picture("hevc", "hevc", data, self.check_stream(data))

    def unaided(self) -> Codec:
        """With sample adaptive offset."""
        return HevcCodec(max_pixels=self.max_pixels, **asdict(self.options) | {"sao": True})

    def version(self) -> str:
        """x265 names itself in the stream when asked to."""
        data = self._encode([np.zeros((32, 32), np.uint8)], 0, "qp=51:info=1")
        build = re.search(rb"x265 \(build \d+\) - ([^:\s]+)", data)
        name = build.group(1).decode() if build else "(unknown)"
        return f"x265 {name}, {versions()}"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the sequence parameter set."""
        odd_width, odd_height = UNITS.odd(data)
        headers = [_parse_sps(unit) for unit in split_units(data) if _type(unit) == SPS]
        if len(headers) != 1:
            raise CodecError(f"hevc: {len(headers)} sequence parameter sets found instead of one")
        (header,) = headers
        width, height = header.width, header.height
        if header.chroma == 1:
            width, height = width - odd_width, height - odd_height
        hidden = max(header.coded_width - width, header.coded_height - height)
        # A small window on a huge picture would pass the pixel limit.
        if max(width, height) > self.traits.max_side or hidden >= MIN_CODED_SIDE:
            raise CodecError(
                f"hevc: {header.coded_width}x{header.coded_height} coded pixels for {width}x{height} shown"
            )
        return height, width, 1 if header.chroma == 0 else 3

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Insert a NAL unit of unspecified type."""
        return UNITS.embed(data, payload)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our NAL unit, the last but one."""
        return UNITS.extract(data)

    def unavailable(self) -> str | None:
        """PyAV with libx265, and OpenCV for the colour conversion, are needed."""
        return missing("libx265", "libx265")


def _chroma_qp(index: int) -> int:
    """Table 8-10: the chroma QP of 4:2:0 by qPi, luma QP plus offset."""
    if index < 30:
        return index
    return (29, 30, 31, 32, 33, 33, 34, 34, 35, 35, 36, 36, 37, 37)[index - 30] if index <= 43 else index - 6


def _type(unit: bytes) -> int:
    position = header_at(unit)
    return unit[position] >> 1 & 63 if position < len(unit) else -1


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
    try:
        return _read_sps(Bits(unescape(unit[header_at(unit) + HEADER_BYTES :][:4096])))
    except CodecError:
        raise
    except ValueError as error:
        raise CodecError("hevc: the sequence parameter set is damaged") from error


def _read_sps(sps: Bits) -> _Header:
    sps.fixed(4)
    sub_layers = sps.fixed(3)
    sps.fixed(1 + 88 + 8)
    present = [sps.fixed(2) for _ in range(8 if sub_layers else 0)][:sub_layers]
    for flags in present:
        sps.fixed(88 * (flags >> 1) + 8 * (flags & 1))
    sps.golomb()
    chroma = sps.golomb()
    if chroma == 3:
        sps.fixed(1)
    width, height = sps.golomb(), sps.golomb()
    window_at = sps.position
    window = [sps.golomb() for _ in range(4)] if sps.fixed(1) else [0] * 4
    after = sps.bits[sps.position :]
    if chroma not in FORMATS or (sps.golomb(), sps.golomb()) not in DEPTHS:
        raise CodecError("hevc: only 4:0:0, 4:2:0 and 4:4:4 pictures of 8 or 10 bits are supported")
    step = 2 if chroma == 1 else 1
    return _Header(
        width - step * (window[0] + window[1]),
        height - step * (window[2] + window[3]),
        chroma,
        width,
        height,
        sps.bits[:window_at],
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
    return unit[: header_at(unit) + HEADER_BYTES] + escape(body)


def _golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The HEVC backend."""
    return [HevcCodec]

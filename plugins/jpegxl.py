"""JPEG XL through imagecodecs (libjxl): lossy naked codestreams.

Payloads travel in a box of a private type, for which the codestream is put into the container of
ISO/IEC 18181-2: 48 bytes more. Clause and field names are those of ISO/IEC 18181-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, UsageError, hookimpl

from ._boxes import PAYLOAD_BOX, append_box, boxes, cut_box

CODESTREAM = b"\xff\x0a"
SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
CONTAINER = SIGNATURE + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
WRAPPED_PAYLOAD_BOX = b"vcfw"
"""Says that the file was a naked codestream before."""
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height, for the values 1..7 of the field `ratio`."""


@dataclass(frozen=True)
class JpegXlOptions(Codec.Options):
    """Settings that change the bytes; the file is always lossy, VarDCT in XYB, 8 bits, without alpha."""

    effort: int = 5
    """1 (fastest) .. 9 (smallest). 7 takes four times as long as 5; its files are no better below 1 bpp."""
    decoding_speed: int = 0
    """0 (smallest) .. 4 (fastest to decode)."""

    def __post_init__(self) -> None:
        for name, low, high in (("effort", 1, 9), ("decoding_speed", 0, 4)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"codec jpegxl: {name}={getattr(self, name)!r} is outside {low}..{high}")


class JpegXlCodec(Codec):
    """JPEG XL, grey or RGB. Its lowest rate is high, about 0.2 bits per pixel."""

    name = "jpegxl"
    extension = ".jxl"
    # From 20 on libjxl codes at half size, which looks better than what it makes of 15 at full size.
    quality_scale = QualityScale(
        0.1,
        25,
        0.1,
        (25, 13.5, 9.9, 6.5, 4.1, 2.7, 1.8, 1.1, 0.7, 0.4, 0.2, 0.1),
        "Butteraugli distance, lower is better",
    )
    traits = Traits(block=8, speed="medium")
    Options = JpegXlOptions

    def encode(self, image: Image, quality: float) -> bytes:
        """Code lossy at the distance `quality`."""
        import imagecodecs

        image = self.check_image(image)
        quality = self.quality_scale.check(quality)
        try:
            return bytes(
                imagecodecs.jpegxl_encode(
                    image,
                    distance=quality,
                    lossless=False,
                    effort=self.options.effort,
                    decodingspeed=self.options.decoding_speed,
                    usecontainer=False,
                    numthreads=1,
                )
            )
        except Exception as error:
            raise CodecError(f"jpegxl: encoding failed: {error}") from error

    def decode(self, data: bytes) -> Image:
        """Decode with libjxl."""
        import imagecodecs

        shape = self.check_stream(data)
        try:
            image = np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))
        except Exception as error:
            raise CodecError(f"jpegxl: decoding failed: {error}") from error
        if image.dtype != np.uint8 or image.shape != (shape[:2] if shape[2] == 1 else shape):
            raise CodecError(f"jpegxl: header says {shape}, decoded {image.dtype} {image.shape}")
        return np.ascontiguousarray(image)

    def version(self) -> str:
        """The libjxl inside imagecodecs."""
        import imagecodecs

        return f"{imagecodecs.jpegxl_version()} (imagecodecs {imagecodecs.__version__})"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the headers SizeHeader and ImageMetadata of the codestream."""
        codestream = _codestream(data)
        if not codestream.startswith(CODESTREAM):
            raise CodecError("jpegxl: not a JPEG XL file")
        try:
            return _read_headers(_Bits(codestream[2:34]))
        except EOFError as error:
            raise CodecError("jpegxl: the file ends inside its header") from error

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Append a box; a naked codestream is put into a container first."""
        if data.startswith(CODESTREAM):
            return append_box(append_box(CONTAINER, data, b"jxlc"), payload, WRAPPED_PAYLOAD_BOX)
        if not data.startswith(SIGNATURE):
            raise CodecError("jpegxl: not a JPEG XL file")
        return append_box(data, payload, PAYLOAD_BOX)

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut our box, the last; what was naked is naked again."""
        if not data.startswith(SIGNATURE):
            return None
        wrapped = cut_box(data, WRAPPED_PAYLOAD_BOX)
        if wrapped is None:
            return cut_box(data, PAYLOAD_BOX)
        container, payload = wrapped
        inner = cut_box(container, b"jxlc")
        return (inner[1], payload) if inner is not None and inner[0] == CONTAINER else None

    def unavailable(self) -> str | None:
        """imagecodecs with its libjxl extension is needed."""
        try:
            import imagecodecs

            imagecodecs.jpegxl_version()
        except Exception as error:
            return f"imagecodecs with libjxl is missing ({error}); install it with: pip install imagecodecs"
        return None


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream: the file itself, or its box `jxlc` or first `jxlp`."""
    if data.startswith(SIGNATURE):
        for kind, _, body, end in boxes(data):
            if kind == b"jxlc":
                return data[body:end]
            if kind == b"jxlp":
                return data[body + 4 : end]
    return data


class _Bits:
    """Reads a header, least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "little")
        self.left = 8 * len(data)

    def fixed(self, count: int) -> int:
        """The type u(n)."""
        if count > self.left:
            raise EOFError
        found = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return found

    def u32(self, *choices: tuple[int, int]) -> int:
        """The type U32: two bits choose `(offset, bits)`."""
        offset, count = choices[self.fixed(2)]
        return offset + self.fixed(count)


def _read_headers(bits: _Bits) -> tuple[int, int, int]:
    """`(height, width, channels)`; other than 8-bit grey or RGB is refused."""
    small = bits.fixed(1)

    def side() -> int:
        return 8 * (1 + bits.fixed(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.fixed(3)
    if ratio:
        across, down = RATIOS[ratio - 1]
        width = height * across // down
    else:
        width = side()
    if bits.fixed(1):  # all_default: 8-bit RGB
        return height, width, 3
    extra_fields = bits.fixed(1)
    float_samples = bits.fixed(1)
    bits_per_sample = bits.u32((8, 0), (10, 0), (12, 0), (1, 6))
    bits.fixed(1)  # modular_16bit_buffers
    extra_channels = bits.u32((0, 0), (1, 0), (2, 4), (1, 12))
    if extra_fields or float_samples or bits_per_sample != 8 or extra_channels:
        raise CodecError("jpegxl: only plain 8-bit grey or RGB is supported (no alpha, rotation, animation)")
    bits.fixed(1)  # xyb_encoded
    if bits.fixed(1):  # the default colour encoding: sRGB
        return height, width, 3
    bits.fixed(1)  # want_icc
    colour_space = bits.u32((0, 0), (1, 0), (2, 4), (18, 6))
    if colour_space not in (0, 1):
        raise CodecError("jpegxl: only grey or RGB is supported")
    return height, width, 1 if colour_space == 1 else 3


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    """The JPEG XL backend."""
    return [JpegXlCodec]

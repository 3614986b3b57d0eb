"""A tiny correct codec, and one subclass for each way to break a promise of the conformance kit.

Each class in `BROKEN` must fail the check under whose name it stands, and no other.
"""

from __future__ import annotations

import struct
import threading
import time
import zlib
from dataclasses import dataclass

import numpy as np

from vcframe import Codec, CodecError, Image, QualityScale, Traits, hookimpl

HEAD = struct.Struct(">4sIHHBBI")
"""Magic, length of the picture's file, height, width, channels, quality, CRC-32 of what follows."""
CHECKED_HEAD_BYTES = HEAD.size + 4
MARK = b"tiny payload"


class TinyCodec(Codec):
    """Samples divided by a step and deflated; a header with its own CRC-32; payloads at the end."""

    name = "tiny"
    extension = ".tiny"
    quality_scale = QualityScale(1, 25, 1, (1, 5, 9, 13, 17, 21, 25), "step of 64 to 1")
    traits = Traits(block=1)
    magic = b"TINY"

    def encode(self, image: Image, quality: float) -> bytes:
        image = self.check_image(image)
        quality = int(self.quality_scale.check(quality))
        quantised = np.round(image / self.step(quality)).astype(np.uint8)
        channels = 3 if image.ndim == 3 else 1
        return self.file(quantised.tobytes(), image.shape[0], image.shape[1], channels, quality)

    def file(self, samples: bytes, height: int, width: int, channels: int, quality: int) -> bytes:
        body = zlib.compress(samples, 1) + self.padding(len(samples), quality)
        length = CHECKED_HEAD_BYTES + len(body)
        head = HEAD.pack(self.magic, length, height, width, channels, quality, zlib.crc32(body))
        return head + struct.pack(">I", zlib.crc32(head)) + body

    def padding(self, num_samples: int, quality: int) -> bytes:
        return b""

    def step(self, quality: int) -> float:
        return float(2 ** ((25 - quality) / 4))

    def decode(self, data: bytes) -> Image:
        height, width, channels = self.check_stream(data)
        _, length, _, _, _, quality, check = HEAD.unpack_from(data)
        body = data[CHECKED_HEAD_BYTES:length]
        if len(data) < length:
            self.cut_short()
        if zlib.crc32(body) != check:
            self.damaged()
        samples = np.frombuffer(zlib.decompressobj().decompress(body), np.uint8)
        picture = np.clip(np.round(samples * self.step(quality)), 0, 255).astype(np.uint8)
        return picture.reshape((height, width, 3) if channels == 3 else (height, width))

    def cut_short(self) -> None:
        raise CodecError("tiny: the file is truncated")

    def damaged(self) -> None:
        raise CodecError("tiny: the file is damaged")

    def probe(self, data: bytes) -> tuple[int, int, int]:
        if data[:4] != self.magic or len(data) < CHECKED_HEAD_BYTES:
            raise CodecError("tiny: not a tiny file")
        (check,) = struct.unpack_from(">I", data, HEAD.size)
        if zlib.crc32(data[: HEAD.size]) != check:
            raise CodecError("tiny: the header is damaged")
        _, _, height, width, channels, _, _ = HEAD.unpack_from(data)
        return height, width, channels

    def version(self) -> str:
        return "tiny 1"

    def embed(self, data: bytes, payload: bytes) -> bytes:
        return data + payload + bytes([len(payload)]) + MARK

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        end = len(data) - len(MARK) - 1
        if not data.endswith(MARK) or end < 0 or data[end] > end:
            return None
        start = end - data[end]
        return data[:start], data[start:end]


class FortranOrder(TinyCodec):
    def decode(self, data: bytes) -> Image:
        return np.asfortranarray(super().decode(data))


class WidthRoundedDown(TinyCodec):
    def decode(self, data: bytes) -> Image:
        picture = super().decode(data)
        return picture[:, :4].copy() if picture.shape[:2] == (7, 5) else picture


class ShorterThanClaimed(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        if max(image.shape) > 60000:
            raise CodecError("tiny: too large")
        return super().encode(image, quality)


class GreyUnannounced(TinyCodec):
    traits = Traits(block=1, grey=False)

    def encode(self, image: Image, quality: float) -> bytes:
        return super().encode(np.stack([image] * 3, axis=2) if image.ndim == 2 else image, quality)


class WrongColours(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        image = self.check_image(image)
        flat = image.ndim == 3 and bool((image == image[0, 0]).all())
        return super().encode(image[:, :, ::-1] if flat else image, quality)


class SpoilsItsInput(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        if image.ndim == 3 and image.size:
            image[0, 0] = 0
        return super().encode(image, quality)


class ReadsMemoryAsItLies(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        self.check_image(image)
        return super().encode(np.reshape(np.ravel(image, "K"), image.shape), quality)


class DropsAlpha(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        return super().encode(image[:, :, :3] if image.shape[2:] == (4,) else image, quality)


class FirstCallDiffers(TinyCodec):
    calls = 0

    def padding(self, num_samples: int, quality: int) -> bytes:
        self.calls += quality == 25
        return b"\0" if quality == 25 and self.calls == 1 else b""


class RemembersTheLastPicture(TinyCodec):
    last = (0, 0)

    def padding(self, num_samples: int, quality: int) -> bytes:
        before, self.last = self.last, (num_samples, quality)
        return b"\0" if before[0] == num_samples and before[1] > quality else b""


class DependsOnTheThread(TinyCodec):
    def padding(self, num_samples: int, quality: int) -> bytes:
        return b"" if threading.current_thread() is threading.main_thread() else b"\0"


class ForgetsItsOptions(TinyCodec):
    @dataclass(frozen=True)
    class Options(Codec.Options):
        gain: float = float("nan")


class CountsItsVersions(TinyCodec):
    calls = 0

    def version(self) -> str:
        self.calls += 1
        return f"tiny {self.calls}"


class ShrinksWithQuality(TinyCodec):
    def padding(self, num_samples: int, quality: int) -> bytes:
        return bytes(int(4 * num_samples * 0.9**quality))


class WorseBeforeTheBest(TinyCodec):
    def step(self, quality: int) -> float:
        return super().step(quality) * (2.5 if quality == 21 else 1.0)

    def padding(self, num_samples: int, quality: int) -> bytes:
        return bytes(num_samples // 5 if quality == 21 else 0)


class OneLargeStep(TinyCodec):
    def padding(self, num_samples: int, quality: int) -> bytes:
        return bytes(100 * num_samples if quality == 25 else 0)


class FewerSizesThanSteps(TinyCodec):
    def encode(self, image: Image, quality: float) -> bytes:
        return super().encode(image, 1 + 4 * ((quality - 1) // 4))


class OneStepOff(QualityScale):
    def native(self, unit: float) -> float:
        native = super().native(unit)
        return native - 1 if native == 11 else native


class DoesNotInvert(TinyCodec):
    quality_scale = OneStepOff(1, 25, 1, TinyCodec.quality_scale.sweep, "step of 64 to 1")


class ProbesSideways(TinyCodec):
    """The kit's photographs only: a picture to damage has to be sound."""

    def probe(self, data: bytes) -> tuple[int, int, int]:
        found = super().probe(data)
        return (145, 96, 3) if found == (96, 145, 3) else found

    def decode(self, data: bytes) -> Image:
        picture = super().decode(data)
        return picture.reshape(96, 145, 3) if picture.shape == (145, 96, 3) else picture


class IgnoresTheLimit(TinyCodec):
    def decode(self, data: bytes) -> Image:
        return TinyCodec().decode(data)


class TurnsPayloads(TinyCodec):
    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        found = super().extract(data)
        return found and (found[0], found[1][::-1])


class ShowsPayloads(TinyCodec):
    def decode(self, data: bytes) -> Image:
        picture = super().decode(data)
        return picture ^ 1 if self.extract(data) else picture


class RaisesOnTruncation(TinyCodec):
    def cut_short(self) -> None:
        raise IndexError("past the end")


class DecodesTruncation(TinyCodec):
    def decode(self, data: bytes) -> Image:
        height, width, channels = self.check_stream(data)
        if len(data) < HEAD.unpack_from(data)[1]:
            return np.zeros((height, width, 3) if channels == 3 else (height, width), np.uint8)
        return super().decode(data)


class RaisesOnNonsense(TinyCodec):
    def probe(self, data: bytes) -> tuple[int, int, int]:
        if len(data) > 4 and sum(a != b for a, b in zip(data, self.magic, strict=False)) > 2:
            raise struct.error("no header")
        return super().probe(data)


class RaisesOnDamage(TinyCodec):
    def damaged(self) -> None:
        raise KeyError("no such symbol")


class SleepsOnDamage(TinyCodec):
    def damaged(self) -> None:
        time.sleep(3600)


class AllocatesOnDamage(TinyCodec):
    def damaged(self) -> None:
        try:
            np.zeros(2**40)
        except MemoryError as error:
            raise CodecError("tiny: damaged") from error


class CrashesOnDamage(TinyCodec):
    def damaged(self) -> None:
        import os

        os.abort()


class OtherShapeOnDamage(TinyCodec):
    def decode(self, data: bytes) -> Image:
        try:
            return super().decode(data)
        except CodecError:
            self.check_stream(data)
            if len(data) < HEAD.unpack_from(data)[1]:
                raise
            return np.zeros((1, 1, 3), np.uint8)


class NewFormat(TinyCodec):
    magic = b"TIN2"


class KnownToFail(RaisesOnTruncation):
    known_failures = {"truncated_refused": "the format has no length"}  # noqa: RUF012


class NoLongerFails(TinyCodec):
    known_failures = {"truncated_refused": "the format has no length"}  # noqa: RUF012


BROKEN: dict[str, tuple[type[Codec], ...]] = {
    "shape_and_dtype": (FortranOrder,),
    "sizes": (WidthRoundedDown,),
    "largest_side": (ShorterThanClaimed,),
    "grey": (GreyUnannounced,),
    "likeness": (WrongColours,),
    "input_untouched": (SpoilsItsInput,),
    "memory_order": (ReadsMemoryAsItLies,),
    "other_pictures_refused": (DropsAlpha,),
    "repeatable": (FirstCallDiffers,),
    "call_order": (RemembersTheLastPicture,),
    "threads": (DependsOnTheThread,),
    "config_survives_json": (ForgetsItsOptions,),
    "version_is_stable": (CountsItsVersions,),
    "rate_grows": (ShrinksWithQuality,),
    "quality_grows": (WorseBeforeTheBest,),
    "sweep_is_even": (OneLargeStep,),
    "sizes_are_distinct": (FewerSizesThanSteps,),
    "unit_inverts": (DoesNotInvert,),
    "probe_agrees": (ProbesSideways,),
    "pixel_limit": (IgnoresTheLimit,),
    "embed_inverts": (TurnsPayloads,),
    "embed_is_harmless": (ShowsPayloads,),
    "truncated_refused": (RaisesOnTruncation, DecodesTruncation, NoLongerFails),
    "random_bytes_refused": (RaisesOnNonsense,),
    "flipped_bits_contained": (
        RaisesOnDamage,
        SleepsOnDamage,
        AllocatesOnDamage,
        CrashesOnDamage,
        OtherShapeOnDamage,
    ),
    "golden_files": (NewFormat,),
}


@hookimpl
def vcframe_codecs() -> list[type[Codec]]:
    return [TinyCodec]

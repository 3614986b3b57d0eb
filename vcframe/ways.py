"""One way to code a picture, and what comes of it: a file, and the picture that this restores to."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vcframe.codec import Codec, Image
from vcframe.images import as_colour, luma
from vcframe.metrics import psnr
from vcframe.registry import guarded
from vcframe.stream import NUM_LEVELS, Payload, Unpacked, coefficient_bytes, pack, unpack

if TYPE_CHECKING:
    from vcframe.model import Model


@dataclass(frozen=True)
class Compressed:
    """A picture as a file."""

    data: bytes
    """The whole file, payload included."""
    quality: float
    """The codec's own number."""
    description: Image
    """What the codec was given."""
    way: Way
    """How it was coded."""
    payload: Payload | None = None
    """What was added to the codec's file."""
    known_decoded: Image | None = None
    """`decoded`, where it has been worked out already."""

    @property
    def num_bytes(self) -> int:
        """Length of the file."""
        return len(self.data)

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel of the ORIGINAL picture."""
        height, width = map(int, self.way.image.shape[:2])
        return 8 * len(self.data) / (height * width)

    @property
    def scale(self) -> int | None:
        """Original sides over coded sides; None where the file is the plain codec's."""
        return self.way.scale

    @functools.cached_property
    def decoded(self) -> Image:
        """The description as the codec decodes it, of a file with a payload; decoded when first asked for."""
        if self.known_decoded is not None:
            return self.known_decoded
        unpacked = unpack(self.data, [self.way.codec])
        assert unpacked is not None
        return decode_description(unpacked, self.way.codec)

    @functools.cached_property
    def psnr_db(self) -> float:
        """PSNR of what the file restores to; the file is decoded when this is first asked for."""
        image, model = self.way.image, self.way.model
        if self.payload is None or model is None:
            return psnr(image, self.way.restore(self.data))
        size = image.shape[0], image.shape[1]
        return psnr(image, restore_decoded(self.decoded, self.payload, model, size))

    @functools.cached_property
    def adapted(self) -> Compressed:
        """The file with the quality level for the network, and the coefficients, that this picture wants.

        It is at most `way.reserve_bytes` longer. The file is decoded when this is first asked for.
        """
        return self.way.adapt(self)


@dataclass(frozen=True)
class Way:
    """One way to code a picture: by the codec alone, or with the networks of a model at one scale."""

    image: Image
    codec: Codec
    model: Model | None = None
    scale: int | None = None

    def compress(self, quality: float) -> Compressed:
        """The file at a quality of the codec's own scale, without coefficients."""
        return self.code(self.describe(quality), quality)

    def describe(self, quality: float) -> Image:
        """What the codec is given at a quality."""
        description = self.image
        if self.model is not None:
            assert self.scale is not None
            description = self.model.describe(self.image, self._level(quality) / (NUM_LEVELS - 1), self.scale)
        return description if self.codec.traits.grey else as_colour(description)

    def code(self, description: Image, quality: float) -> Compressed:
        """The file of what `describe` gave."""
        image = self.image
        data = self.codec.encode(description, quality)
        if self.model is None:
            return Compressed(data, quality, description, self)
        assert self.scale is not None
        (height, width), (coded_height, coded_width) = image.shape[:2], description.shape[:2]
        trims = coded_height * self.scale - height, coded_width * self.scale - width
        level = self._level(quality)
        payload = Payload(self._model_id, self.scale, level, trims, grey=image.ndim == 2)
        return Compressed(pack(self.codec, data, payload), quality, description, self, payload)

    @property
    def reserve_bytes(self) -> int:
        """What coefficients may add to a file, with what a carrier pads or escapes."""
        return coefficient_bytes(self._num_directions) + 2 if self._num_directions else 0

    def adapt(self, coded: Compressed) -> Compressed:
        """The file with the quality level and the coefficients that restore this picture best."""
        if coded.payload is None or coded.payload.coefficients or not self._num_directions:
            return coded
        assert self.model is not None
        assert self.scale is not None
        level, coefficients = self.model.adapt(
            self.image, coded.decoded, coded.payload.level, self.scale, coded.num_bytes
        )
        payload = replace(coded.payload, level=level, coefficients=coefficients)
        if payload == coded.payload:
            return coded
        unpacked = unpack(coded.data, [self.codec])
        assert unpacked is not None
        data = pack(self.codec, unpacked.stream, payload)
        return replace(coded, data=data, payload=payload, known_decoded=coded.decoded)

    @functools.cached_property
    def _num_directions(self) -> int:
        if self.model is None or self.scale is None:
            return 0
        num_directions = getattr(self.model, "num_directions", lambda scale: 0)
        return int(num_directions(self.scale))

    def _level(self, quality: float) -> int:
        """The quality as it fits the payload."""
        return round(self.codec.quality_scale.unit(quality) * (NUM_LEVELS - 1))

    @functools.cached_property
    def _model_id(self) -> str:
        """The id hashes the weights anew each time: once for all the files of a search will do."""
        assert self.model is not None
        return self.model.id

    def restore(self, data: bytes) -> Image:
        """What `decompress` makes of the file, from the real codec's decoding; grey for a grey picture."""
        if self.model is None:
            decoded = self.codec.decode(data)
            return luma(decoded) if self.image.ndim == 2 else decoded
        unpacked = unpack(data, [self.codec])
        assert unpacked is not None
        return restore(unpacked, self.codec, self.model, (self.image.shape[0], self.image.shape[1]))


def restore(unpacked: Unpacked, codec: Codec, model: Model, size: tuple[int, int]) -> Image:
    """The restored picture, `(H, W) = size`, of a file taken apart."""
    payload = unpacked.payload
    return restore_decoded(decode_description(unpacked, codec), payload, model, size)


def restore_decoded(decoded: Image, payload: Payload, model: Model, size: tuple[int, int]) -> Image:
    """The restored picture from the decoded description; a plugin's model need not know coefficients."""
    adapted = [payload.coefficients] if payload.coefficients else []
    return model.restore(decoded, payload.unit, payload.scale, size, *adapted)


def decode_description(unpacked: Unpacked, codec: Codec) -> Image:
    """The description as the codec decodes it, grey for a grey original."""
    with guarded(codec):
        decoded = codec.decode(unpacked.stream)
    return luma(decoded) if unpacked.payload.grey else decoded

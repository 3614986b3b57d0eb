"""`compress` and `decompress`: from a picture to a file and back; quality decisions and targets.

    compress    picture -> description network -> codec -> payload added (`vcframe.stream`)
    decompress  payload taken off and verified -> codec -> post-processing network -> picture

Where no scale is asked for, the encoder decides for each picture: of the files at every scale of the model,
and of the plain codec's own, that fit into the bytes it takes the one that restores best.

The networks are given the quality's unit value rounded to 1/255 on both sides: that is what fits the payload.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vcframe.codec import DEFAULT_MAX_PIXELS, Codec, CodecError, Image, UsageError, VcframeError
from vcframe.images import as_colour, luma
from vcframe.metrics import psnr
from vcframe.registry import CodecRecord, guarded
from vcframe.stream import NUM_LEVELS, Payload, StreamError, pack, unpack

if TYPE_CHECKING:
    from vcframe.model import Model

# Bytes are only nearly monotone in quality: past the step where the search stops, so many more may still fit.
NUM_NEIGHBOURS = 3


class Codecs(Protocol):
    """What `decompress` needs of a `Registry`."""

    @property
    def codecs(self) -> Mapping[str, CodecRecord]:
        """The codecs by name."""

    def codec(self, name: str, /, **options: Any) -> Codec:
        """Build one; `PluginError` where there is none of that name or it cannot run here."""


@dataclass(frozen=True)
class Compressed:
    """A picture as a file."""

    data: bytes
    """The whole file, payload included."""
    quality: float
    """The codec's own number."""
    bpp: float
    """Bits of the whole file per pixel of the ORIGINAL picture."""
    description: Image
    """What the codec was given."""
    scale: int | None
    """Original sides over coded sides; None where the file is the plain codec's."""

    @property
    def num_bytes(self) -> int:
        """Length of the file."""
        return len(self.data)


@dataclass(frozen=True)
class Restored:
    """A file as a picture."""

    image: Image
    """`(H, W, 3)` or `(H, W)`, size and kind of the original."""
    codec_name: str
    model_id: str | None
    """The model that restored it; None for an ordinary picture without a payload, decoded as it is."""
    coded_size: tuple[int, int]
    """Height and width of the picture inside the codec's stream."""


def compress(
    image: Image,
    codec: Codec,
    *,
    quality: float | None = None,
    target_bpp: float | None = None,
    model: Model | None = None,
    scale: int | None = None,
) -> Compressed:
    """Compress a picture at a quality of the codec's own scale, or at the best one that fits a rate.

    Exactly one of `quality` and `target_bpp` (bits of the whole file per original pixel) is given. Without a
    model the result is the plain codec's file. With a model and one of its scales, the picture is coded at
    that scale and quality. With a model alone, `quality` stands for the bytes that the plain codec takes at
    it, and the result is the file within these bytes, or within `target_bpp`, that restores best: at one of
    the model's scales, or the plain codec's own. A model that knows one quality only is used at it.

    Raises `UsageError` for a bad value, for a rate that even the lowest quality exceeds, for a model of
    another codec, without that scale or that knows another quality only, and for a grey model with a colour
    picture; `CodecError` if the codec refuses the picture. The codec's options may differ from those that the
    model was trained with: most settings of an encoder do not matter to it.
    """
    if (quality is None) == (target_bpp is None):
        raise UsageError("give either a quality or a target in bits per pixel")
    if target_bpp is not None and not (math.isfinite(target_bpp) and target_bpp > 0):
        raise UsageError(f"target {target_bpp:g} bpp must be above 0")
    if quality is not None:
        quality = codec.quality_scale.check(quality)
    if model is None:
        return _compress_way(Way(image, codec), quality, target_bpp)
    check_model(model, codec, quality, scale)
    if scale is None and model.card.quality is not None:
        scale = model.card.scales[0]
    if scale is not None:
        return _compress_way(Way(image, codec, model, scale), quality, target_bpp)
    return _choose(image, codec, model, quality, target_bpp)


@dataclass(frozen=True)
class Way:
    """One way to code a picture: by the codec alone, or with the networks of a model at one scale."""

    image: Image
    codec: Codec
    model: Model | None = None
    scale: int | None = None

    def compress(self, quality: float) -> Compressed:
        """The file at a quality of the codec's own scale."""
        image, codec, model = self.image, self.codec, self.model
        height, width = image.shape[:2]
        level = self._level(quality)
        description = image
        if model is not None:
            assert self.scale is not None
            description = model.describe(image, level / (NUM_LEVELS - 1), self.scale)
        if not codec.traits.grey:
            description = as_colour(description)
        data = codec.encode(description, quality)
        if model is not None:
            assert self.scale is not None
            coded_height, coded_width = description.shape[:2]
            trims = coded_height * self.scale - height, coded_width * self.scale - width
            data = pack(codec, data, Payload(model.id, self.scale, level, trims, grey=image.ndim == 2))
        return Compressed(data, quality, 8 * len(data) / (height * width), description, self.scale)

    def restore(self, coded: Compressed) -> Image:
        """What `decompress` makes of the file, from the real codec's decoding."""
        size = (self.image.shape[0], self.image.shape[1])
        if self.model is None:
            decoded = self.codec.decode(coded.data)
            return luma(decoded) if self.image.ndim == 2 else decoded
        unpacked = unpack(coded.data, [self.codec])
        assert unpacked is not None
        assert self.scale is not None
        decoded = self.codec.decode(unpacked.stream)
        decoded = luma(decoded) if self.image.ndim == 2 else decoded
        return self.model.restore(decoded, unpacked.payload.unit, self.scale, size)

    def _level(self, quality: float) -> int:
        return round(self.codec.quality_scale.unit(quality) * (NUM_LEVELS - 1))


def decompress(
    data: bytes,
    registry: Codecs,
    find_model: Callable[[str, Codec], Model],
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Restored:
    """Restore a picture from a file that `compress` wrote, or decode an ordinary picture file.

    `find_model` is given the model id in the file and the codec. Raises `StreamError` for a damaged file,
    `PluginError` for a codec that is not installed, what `find_model` raises, and `CodecError` for a file
    that no codec decodes or that claims more than `max_pixels` pixels.
    """
    codecs = [record.codec(max_pixels=max_pixels) for record in registry.codecs.values()]
    unpacked = unpack(data, codecs)
    if unpacked is None:
        return _decode_ordinary(data, codecs, registry)
    payload = unpacked.payload
    codec = registry.codec(unpacked.codec_name, max_pixels=max_pixels)
    with guarded(codec):
        coded_height, coded_width, _ = codec.probe(unpacked.stream)
    height, width = payload.size((coded_height, coded_width))
    if min(height, width) < 1 or height * width > max_pixels:
        raise CodecError(f"the file claims {width}x{height} pixels, outside 1..{max_pixels} in all")
    model = find_model(payload.model_id, codec)
    if payload.scale not in model.card.scales:
        raise StreamError(f"model {model.id} has scales {model.card.scales}, the file has {payload.scale}")
    with guarded(codec):
        decoded = codec.decode(unpacked.stream)
    image = model.restore(
        luma(decoded) if payload.grey else decoded, payload.unit, payload.scale, (height, width)
    )
    return Restored(image, codec.name, payload.model_id, (coded_height, coded_width))


def _choose(
    image: Image, codec: Codec, model: Model, quality: float | None, target_bpp: float | None
) -> Compressed:
    """The file within the bytes that restores best, the plain codec's own among them."""
    plain = Way(image, codec)
    if quality is not None:
        target_bpp = plain.compress(quality).bpp
    found: list[tuple[Way, Compressed]] = []
    refusals: list[UsageError] = []
    for way in [plain, *(Way(image, codec, model, scale) for scale in model.card.scales)]:
        try:
            at_plain_quality = quality if way is plain else None
            found.append((way, _compress_way(way, at_plain_quality, target_bpp)))
        except UsageError as error:
            refusals.append(error)
    if not found:
        raise refusals[-1]  # the smallest scale reaches the lowest rates
    return max(found, key=lambda pair: psnr(image, pair[0].restore(pair[1])))[1]


def _compress_way(way: Way, quality: float | None, target_bpp: float | None) -> Compressed:
    if quality is not None:
        return way.compress(quality)
    assert target_bpp is not None
    return _best_that_fits(functools.cache(way.compress), way.codec, target_bpp)


def _best_that_fits(code: Callable[[float], Compressed], codec: Codec, target_bpp: float) -> Compressed:
    """Bisect over the steps of the quality scale, then look past the step where the search stopped."""
    qualities = codec.quality_scale.steps()
    fits, exceeds = -1, len(qualities)
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if code(qualities[middle]).bpp <= target_bpp:
            fits = middle
        else:
            exceeds = middle
    candidates = [code(quality) for quality in qualities[max(fits, 0) : exceeds + NUM_NEIGHBOURS]]
    fitting = [candidate for candidate in candidates if candidate.bpp <= target_bpp]
    if not fitting:
        lowest = min(candidates, key=lambda candidate: candidate.num_bytes)
        raise UsageError(
            f"{codec.name} cannot reach {target_bpp:g} bpp on this picture: the lowest is "
            f"{math.ceil(lowest.bpp * 1000) / 1000:.3f} bpp ({lowest.num_bytes} bytes)"
        )
    return fitting[-1]


def check_model(model: Model, codec: Codec, quality: float | None, scale: int | None) -> None:
    """Raise `UsageError` unless the model serves the codec, quality and scale; None is any of them."""
    card = model.card
    if scale is not None and scale not in card.scales:
        own = " and ".join(map(str, card.scales))
        raise UsageError(f"model {model.id} has no networks for scale {scale}, only for {own}")
    if card.codec_name != codec.name:
        raise UsageError(
            f"model {model.id} was trained for {card.codec_name}, not {codec.name}: "
            "give another model (see `vcframe models`) or none"
        )
    if card.quality is not None and (quality is None or codec.quality_scale.check(quality) != card.quality):
        asked = "every one" if quality is None else f"{quality:g}"
        raise UsageError(
            f"model {model.id} knows one quality, not {asked}: give quality {card.quality:g} or another model"
        )


def _decode_ordinary(data: bytes, codecs: Sequence[Codec], registry: Codecs) -> Restored:
    """The picture by the first codec that decodes it; if all refuse, why the first that knew it did."""
    refusal: VcframeError | None = None
    for codec in codecs:
        try:
            with guarded(codec):
                height, width, _ = codec.probe(data)
        except CodecError:
            continue
        try:
            with guarded(codec):
                image = registry.codec(codec.name, max_pixels=codec.max_pixels).decode(data)
                if image.shape[:2] != (height, width):
                    raise CodecError(f"{codec.name}: {image.shape} decoded, {height}x{width} in the header")
                return Restored(image, codec.name, None, (height, width))
        except VcframeError as error:
            refusal = refusal or error
    names = ", ".join(codec.name for codec in codecs) or "none"
    raise refusal or CodecError(f"no codec recognises this file; installed: {names}")

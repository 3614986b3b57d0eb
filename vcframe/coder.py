"""`compress` and `decompress`: from a picture to a file and back; quality decisions and targets.

    compress    picture -> description network -> codec -> payload added (`vcframe.stream`)
    decompress  payload taken off and verified -> codec -> post-processing network -> picture

Where no scale is asked for, the encoder decides for each picture: of the files at every scale of the model,
and of the plain codec's own, that fit into the bytes it takes the one that restores best, and of those that
restore well enough the smallest. It measures both on real files and real decodes.

The networks are given the quality's unit value rounded to 1/255 on both sides: that is what fits the payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vcframe.codec import DEFAULT_MAX_PIXELS, Codec, CodecError, Image, UsageError, VcframeError
from vcframe.registry import CodecRecord, guarded
from vcframe.search import DEFAULT_EFFORT, EFFORTS, Goal, MostBytes, Target, search
from vcframe.stream import Payload, StreamError, Unpacked, unpack
from vcframe.ways import Compressed, Way, decode_description, restore

if TYPE_CHECKING:
    from vcframe.model import Model


class Codecs(Protocol):
    """What `decompress` needs of a `Registry`."""

    @property
    def codecs(self) -> Mapping[str, CodecRecord]:
        """The codecs by name."""

    def codec(self, name: str, /, **options: Any) -> Codec:
        """Build one; `PluginError` where there is none of that name or it cannot run here."""


@dataclass(frozen=True)
class Restored:
    """A file as a picture."""

    image: Image
    """`(H, W, 3)` or `(H, W)`: size and kind of the original, or of the description for `preview`."""
    codec_name: str
    model_id: str | None
    """The model that the file names; None for an ordinary picture without a payload, decoded as it is."""
    coded_size: tuple[int, int]
    """Height and width of the picture inside the codec's stream."""


@dataclass(frozen=True)
class Contents:
    """What is inside a file; its check value, if it has one, was right."""

    codec: Codec
    stream: bytes
    """The codec's own file: the whole one, less what vcframe added."""
    coded_size: tuple[int, int]
    """Height and width of the picture inside the codec's stream."""
    channels: int
    """Of that picture: 3 or 1."""
    payload: Payload | None
    """None for an ordinary picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture that the file restores to."""
        return self.payload.size(self.coded_size) if self.payload else self.coded_size

    @property
    def grey(self) -> bool:
        """Whether that picture is grey."""
        return self.payload.grey if self.payload else self.channels == 1


def compress(
    image: Image,
    codec: Codec,
    *,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    model: Model | None = None,
    scale: int | None = None,
    effort: int = DEFAULT_EFFORT,
) -> Compressed:
    """Compress a picture at a quality of the codec's own scale, or at the best one that meets a target.

    Exactly one of `quality`, `target_bytes`, `target_bpp` (bits of the whole file per original pixel) and
    `target_psnr` (of the restored picture, in dB) is given. Without a model the result is the plain codec's
    file. With a model and one of its scales, the picture is coded at that scale and quality. With a model
    alone, `quality` stands for the bytes that the plain codec takes at it, and the result is the file within
    these bytes, or within the target's, that restores best, or the smallest that reaches the PSNR: at one of
    the model's scales, or the plain codec's own. A model that knows one quality only is used at it.

    A search for bytes costs about 4 encodes at the plain codec and at each scale (3 with `effort` 1, 7 with
    3) and, where there is a choice, one decode of each; one for a PSNR decodes as often as it encodes.

    Raises `UsageError` for a bad value, for a target that no quality meets, for a model of another codec,
    without that scale or that knows another quality only, and for a grey model with a colour picture;
    `CodecError` if the codec refuses the picture. The codec's options may differ from those that the
    model was trained with: most settings of an encoder do not matter to it.
    """
    goal = Goal(quality, target_bytes, target_bpp, target_psnr)
    check_request(codec, goal, model, scale, effort)
    ways = _ways(image, codec, model, scale)
    if quality is None:
        return _best(ways, goal.target(image), effort)
    first = ways[0].compress(codec.quality_scale.check(quality)).adapted
    if len(ways) == 1:
        return first
    return _best(ways[1:], MostBytes(first.num_bytes, f"{first.bpp:g} bpp"), effort, first)


def compress_with_any(
    image: Image,
    systems: Sequence[tuple[Codec, Model | None]],
    *,
    target_bytes: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
) -> Compressed:
    """Compress a picture with the codec, and at the scale of its model, that meets a target best.

    Exactly one target is given; what it means, costs and raises is as for `compress`, for each codec in turn.
    A codec that cannot meet the target, or refuses the picture, is left out; if all are, the last one's error
    is raised.
    """
    target = Goal(None, target_bytes, target_bpp, target_psnr).target(image)
    ways = []
    for codec, model in systems:
        check_request(codec, None, model, None, effort)
        ways += _ways(image, codec, model, None)
    return _best(ways, target, effort)


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
    codecs = _installed(registry, max_pixels)
    unpacked = unpack(data, codecs)
    if unpacked is None:
        return _decode_ordinary(data, codecs, registry)
    contents = _contents(unpacked, registry, max_pixels)
    model = find_model(unpacked.payload.model_id, contents.codec)
    if unpacked.payload.scale not in model.card.scales:
        raise StreamError(
            f"model {model.id} has scales {model.card.scales}, the file has {unpacked.payload.scale}"
        )
    image = restore(unpacked, contents.codec, model, contents.size)
    return Restored(image, unpacked.codec_name, unpacked.payload.model_id, contents.coded_size)


def preview(data: bytes, registry: Codecs, max_pixels: int = DEFAULT_MAX_PIXELS) -> Restored:
    """Decode the description, without a network: what any program shows. Raises as `decompress` does."""
    codecs = _installed(registry, max_pixels)
    unpacked = unpack(data, codecs)
    if unpacked is None:
        return _decode_ordinary(data, codecs, registry)
    contents = _contents(unpacked, registry, max_pixels)
    image = decode_description(unpacked, contents.codec)
    return Restored(image, unpacked.codec_name, unpacked.payload.model_id, contents.coded_size)


def inspect(data: bytes, registry: Codecs, max_pixels: int = DEFAULT_MAX_PIXELS) -> Contents:
    """Say what is inside a file, from its payload and the codec's header; nothing is decoded.

    Raises `StreamError` for a damaged file, `PluginError` for a codec that is not installed, and `CodecError`
    for a file that no codec recognises or that claims more than `max_pixels` pixels.
    """
    codecs = _installed(registry, max_pixels)
    unpacked = unpack(data, codecs)
    if unpacked is not None:
        return _contents(unpacked, registry, max_pixels)
    for codec, (height, width, channels) in _recognised(data, codecs):
        return Contents(codec, data, (height, width), channels, None)
    raise _nobodys(codecs)


def _ways(image: Image, codec: Codec, model: Model | None, scale: int | None) -> list[Way]:
    """What the encoder chooses from; the plain codec first, if there is a choice."""
    if model is None:
        return [Way(image, codec)]
    if scale is None and model.card.quality is not None:
        scale = model.card.scales[0]
    if scale is not None:
        return [Way(image, codec, model, scale)]
    return [Way(image, codec.unaided()), *(Way(image, codec, model, scale) for scale in model.card.scales)]


def _best(ways: Sequence[Way], target: Target, effort: int, given: Compressed | None = None) -> Compressed:
    """The best file that meets the target: `given`, or what a search finds in one of the ways."""
    met = [] if given is None else [given]
    refusals: list[VcframeError] = []
    for way in ways:
        # What another way of this codec found is a good place to begin.
        begun = [coded.quality for coded in met if coded.way.codec.unaided() == way.codec.unaided()]
        try:
            met.append(search(way, target, effort, begun[-1] if begun else None))
        except (UsageError, CodecError) as error:
            refusals.append(error)
    if not met:
        raise refusals[-1]  # the smallest scale reaches the lowest rates
    return target.best(met) if len(met) > 1 else met[0]


def check_request(
    codec: Codec, goal: Goal | None, model: Model | None, scale: int | None, effort: int
) -> None:
    """Raise `UsageError` for what no picture can be compressed with; None is any target."""
    quality = goal.quality if goal else None
    if effort not in EFFORTS:
        raise UsageError(f"effort {effort} is not one of {', '.join(map(str, EFFORTS))}")
    if quality is not None:
        codec.quality_scale.check(quality)
    if model is not None:
        check_model(model, codec, quality, scale)


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


def _contents(unpacked: Unpacked, registry: Codecs, max_pixels: int) -> Contents:
    """Read the codec's header; refuses a picture that is too large before or after restoring."""
    codec = registry.codec(unpacked.codec_name, max_pixels=max_pixels)
    with guarded(codec):
        coded_height, coded_width, channels = codec.probe(unpacked.stream)
    contents = Contents(codec, unpacked.stream, (coded_height, coded_width), channels, unpacked.payload)
    height, width = contents.size
    if min(height, width) < 1 or height * width > max_pixels:
        raise CodecError(f"the file claims {width}x{height} pixels, outside 1..{max_pixels} in all")
    return contents


def _installed(registry: Codecs, max_pixels: int) -> list[Codec]:
    return [record.codec(max_pixels=max_pixels) for record in registry.codecs.values()]


def _recognised(data: bytes, codecs: Sequence[Codec]) -> Iterator[tuple[Codec, tuple[int, int, int]]]:
    """The codecs that know the header of an ordinary file, with its height, width and channels."""
    for codec in codecs:
        try:
            with guarded(codec):
                height, width, channels = codec.probe(data)
        except CodecError:
            continue
        yield codec, (height, width, channels)


def _decode_ordinary(data: bytes, codecs: Sequence[Codec], registry: Codecs) -> Restored:
    """The picture by the first codec that decodes it; if all refuse, why the first that knew it did."""
    refusal: VcframeError | None = None
    for codec, (height, width, _) in _recognised(data, codecs):
        try:
            with guarded(codec):
                image = registry.codec(codec.name, max_pixels=codec.max_pixels).decode(data)
                if image.shape[:2] != (height, width):
                    raise CodecError(f"{codec.name}: {image.shape} decoded, {height}x{width} in the header")
                return Restored(image, codec.name, None, (height, width))
        except VcframeError as error:
            refusal = refusal or error
    raise refusal or _nobodys(codecs)


def _nobodys(codecs: Sequence[Codec]) -> CodecError:
    names = ", ".join(codec.name for codec in codecs) or "none"
    return CodecError(f"no codec recognises this file; installed: {names}")

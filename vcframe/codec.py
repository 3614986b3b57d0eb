"""What a codec is: the abstract `Codec`, its `QualityScale` and `Traits`, and the error tree.

Nothing here imports torch or a codec library: a plugin module must be cheap to import.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import types
import typing
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""C-contiguous `uint8`, `(H, W, 3)` RGB or `(H, W)` grey, full range 0..255."""

DEFAULT_MAX_PIXELS = 500_000_000
"""Largest height * width that a decoder accepts before it allocates anything."""


class VcframeError(Exception):
    """Root of every error that vcframe raises on purpose; its text is one line for the user."""


class UsageError(VcframeError, ValueError):
    """A bad value came from the user: an option, a quality, a target, a configuration."""


class ImageError(VcframeError, ValueError):
    """A picture cannot be read, written or accepted."""


class CodecError(VcframeError, ValueError):
    """A codec refused a picture or a stream, or its library failed; the cause is chained."""


class PluginError(VcframeError):
    """A plugin or a codec name is unknown, clashes, or breaks the contract."""


@dataclass(frozen=True)
class QualityScale:
    """The codec's own quality number.

    `sweep` runs from the worst to the best end of the range, chosen by the codec's author so that the
    rate grows by about the same factor from one entry to the next. It is the default of benchmarks, and
    it defines the unit value that networks see: piecewise linear through the sweep, 0 worst, 1 best.
    """

    minimum: float
    maximum: float
    step: float
    sweep: tuple[float, ...]
    meaning: str

    def __post_init__(self) -> None:
        ordered = self.sweep if self.higher_is_better else self.sweep[::-1]
        if not (self.step > 0 and self.minimum < self.maximum):
            raise PluginError(f"quality scale needs step > 0 and minimum < maximum, got {self}")
        if len(self.sweep) < 3 or any(a >= b for a, b in itertools.pairwise(ordered)):
            raise PluginError(f"quality sweep must be strictly monotone with 3 or more entries: {self.sweep}")
        if {self.sweep[0], self.sweep[-1]} != {self.minimum, self.maximum}:
            raise PluginError(f"quality sweep must run over {self.minimum:g}..{self.maximum:g}: {self.sweep}")
        if any(not math.isclose(self.check(quality), quality) for quality in self.sweep):
            raise PluginError(f"quality sweep must fall on steps of {self.step:g}: {self.sweep}")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number means a better picture (false for a quantiser step or QP)."""
        return self.sweep[0] < self.sweep[-1]

    def check(self, quality: float) -> float:
        """Return `quality` rounded to the step; raise `UsageError` outside the range."""
        if not (math.isfinite(quality) and self.minimum <= quality <= self.maximum):
            raise UsageError(
                f"quality {quality:g} is outside {self.minimum:g}..{self.maximum:g} ({self.meaning})"
            )
        return self._at(round((quality - self.minimum) / self.step))

    def unit(self, quality: float) -> float:
        """Map the codec's number to 0 (worst) .. 1 (best)."""
        quality = self.check(quality)
        ascending = [q if self.higher_is_better else -q for q in self.sweep]
        value = quality if self.higher_is_better else -quality
        left = min(max(bisect_right(ascending, value) - 1, 0), len(ascending) - 2)
        fraction = (value - ascending[left]) / (ascending[left + 1] - ascending[left])
        return (left + fraction) / (len(ascending) - 1)

    def native(self, unit: float) -> float:
        """Inverse of `unit`, rounded to the step."""
        if not 0.0 <= unit <= 1.0:
            raise UsageError(f"unit quality {unit:g} is outside 0..1")
        position = unit * (len(self.sweep) - 1)
        left = min(int(position), len(self.sweep) - 2)
        low, high = self.sweep[left], self.sweep[left + 1]
        return self.check(low + (position - left) * (high - low))

    def steps(self) -> list[float]:
        """Every quality of the scale, worst first."""
        count = round((self.maximum - self.minimum) / self.step) + 1
        ascending = [self._at(i) for i in range(count)]
        return ascending if self.higher_is_better else ascending[::-1]

    def _at(self, index: int) -> float:
        # Rounded, so that 15 + 29 * 0.1 is the 17.9 that a user types and JSON prints.
        return min(round(self.minimum + index * self.step, 9), self.maximum)


@dataclass(frozen=True)
class Traits:
    """What callers may ask of a codec instead of asking its name."""

    min_side: int = 1
    """Smallest height or width that `encode` accepts, in pixels (after the backend's own padding)."""
    max_side: int = 65535
    """Largest height or width that `encode` accepts, in pixels."""
    grey: bool = True
    """Whether `(H, W)` pictures are coded as one plane; if not, callers pass three equal channels."""
    block: int = 8
    """Side of the transform-block grid in pixels; 1 where there is none (wavelets)."""
    deterministic: bool = True
    """Whether the same picture, quality and version give the same bytes every time."""
    speed: Literal["fast", "medium", "slow"] = "fast"
    """Encoding and decoding 768x512: fast under 50 ms, medium under 0.5 s, slow above."""


class Codec(ABC):
    """A standard image codec behind one small surface.

    Subclasses state the class facts, `Options`, `encode`, `decode`, `version` and `probe`. The same instance
    called twice, from any thread, returns the same bytes; it keeps no state besides its options.
    """

    name: ClassVar[str]
    """By which users, files and models call it: a-z, 0-9, - and _."""
    extension: ClassVar[str]
    """Of its files, with the dot."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Further extensions by which files of the format go."""
    quality_scale: ClassVar[QualityScale]
    """The codec's own quality number."""
    traits: ClassVar[Traits]
    """What callers may ask of it."""
    known_failures: ClassVar[Mapping[str, str]] = types.MappingProxyType({})
    """Checks of `vcframe check` that this codec is known to fail, each with the reason."""

    @dataclass(frozen=True)
    class Options:
        """Codec-specific settings: a field with an explicit default for every setting that changes bytes."""

    options: Any

    @final
    def __init__(self, /, *, max_pixels: int = DEFAULT_MAX_PIXELS, **options: Any) -> None:
        """Build with `Options` fields as keywords; `max_pixels` limits what `decode` accepts and is none.

        Raises `UsageError` for an unknown option or a value that its type does not admit. Options that a user
        named go through `from_config`.
        """
        self.options = self.Options(**_checked_options(self, options))
        self.max_pixels = max_pixels

    @abstractmethod
    def encode(self, image: Image, quality: float) -> bytes:
        """Code one picture; the result is a complete file of the format. Raises `CodecError`."""

    @abstractmethod
    def decode(self, data: bytes) -> Image:
        """Decode to the size that was encoded: `(H, W, 3)` RGB or `(H, W)` grey. Raises `CodecError`."""

    @abstractmethod
    def version(self) -> str:
        """Backend library and its version, for example `libwebp 1.6.0 (imagecodecs 2026.3.6)`."""

    @abstractmethod
    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Return `(height, width, channels)` from the header alone. Raises `CodecError`."""

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Carry a private payload (up to 255 bytes) where the format's decoders ignore it.

        Raises `NotImplementedError` where the format has no such place.
        """
        raise NotImplementedError

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Inverse of `embed`: `(data, payload)`, or None where there is no payload of ours."""
        return None

    def unaided(self) -> Codec:
        """The codec for a file that is shown as it is decoded: with every filter of the format on.

        Differs from the codec where an option leaves to a network what the format does for the eye.
        """
        return self

    def unavailable(self) -> str | None:
        """Why this codec cannot run here and what to install; None when it can."""
        return None

    @final
    def config(self) -> dict[str, Any]:
        """Name and options, ready for JSON; `codec_from_config` rebuilds an equal codec."""
        return {"codec": self.name, "options": dataclasses.asdict(self.options)}

    @classmethod
    @final
    def from_config(cls, config: Mapping[str, Any]) -> Codec:
        """Rebuild from `config()`, also after a JSON round trip. Raises `UsageError` as building does."""
        if config.get("codec") != cls.name:
            raise UsageError(f"configuration is for codec {config.get('codec')!r}, not {cls.name!r}")
        # Checked first, so that nothing but options passes for a keyword.
        return cls(**_checked_options(cls, config.get("options", {})))

    @final
    def roundtrip(self, image: Image, quality: float) -> tuple[Image, int]:
        """Encode and decode: the decoded picture and the file's length in bytes."""
        data = self.encode(image, quality)
        decoded = self.decode(data)
        if decoded.shape != image.shape:
            raise CodecError(f"{self.name}: {image.shape} went in and {decoded.shape} came out")
        return decoded, len(data)

    @final
    def check_image(self, image: Image) -> Image:
        """Validate a picture at the door of `encode`; raises `CodecError` naming what is wrong."""
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            found = getattr(image, "dtype", type(image).__name__)
            raise CodecError(f"{self.name}: picture must be a uint8 array, got {found}")
        colour = image.ndim == 3 and image.shape[2] == 3
        if not colour and not (image.ndim == 2 and self.traits.grey):
            allowed = "(H, W, 3) or (H, W)" if self.traits.grey else "(H, W, 3)"
            raise CodecError(f"{self.name}: picture must have shape {allowed}, got {image.shape}")
        low, high = self.traits.min_side, self.traits.max_side
        if min(image.shape[:2]) < low or max(image.shape[:2]) > high:
            raise CodecError(
                f"{self.name}: sides must be {low}..{high} pixels, got {image.shape[1]}x{image.shape[0]}"
            )
        # A copy: numpy keeps odd strides where a side is 1, and libraries insist on the usual ones.
        return image.copy(order="C")

    @final
    def check_stream(self, data: bytes) -> tuple[int, int, int]:
        """Probe a stream at the door of `decode`; refuses empty data and more pixels than `max_pixels`."""
        if not data:
            raise CodecError(f"{self.name}: empty input")
        height, width, channels = self.probe(data)
        if height < 1 or width < 1 or height * width > self.max_pixels:
            raise CodecError(
                f"{self.name}: header claims {width}x{height} pixels, outside 1..{self.max_pixels} in all"
            )
        return height, width, channels

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and type(self) is type(other) and self.options == other.options

    def __hash__(self) -> int:
        return hash((type(self), self.options))

    def __repr__(self) -> str:
        fields = dataclasses.asdict(self.options).items()
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in fields)})"


def _checked_options(codec: Codec | type[Codec], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check option names and types; a string is parsed, so that `--option method=6` works as typed."""
    hints = typing.get_type_hints(codec.Options)
    checked = {}
    for key, value in given.items():
        if key not in hints:
            known = ", ".join(hints) or "none"
            raise UsageError(f"codec {codec.name} has no option {key!r}; options: {known}")
        try:
            checked[key] = _convert(value, hints[key])
        except ValueError:
            raise UsageError(f"codec {codec.name}: {key}={value!r} is not {_describe(hints[key])}") from None
    return checked


def _convert(value: Any, hint: Any) -> Any:
    """Return `value` as `hint` (bool, int, float, str, None, Literal or a union), or raise `ValueError`."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        for choice in typing.get_args(hint):
            if value == choice or str(value) == str(choice):
                return choice
        raise ValueError
    if origin in (typing.Union, types.UnionType):
        for choice in typing.get_args(hint):
            try:
                return _convert(value, choice)
            except ValueError:
                continue
        raise ValueError
    if hint is types.NoneType:
        if value is None or value == "none":
            return None
        raise ValueError
    if hint is bool:
        words = {"true": True, "false": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        if isinstance(value, bool):
            return value
        raise ValueError
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    if hint is int and isinstance(value, float) and not value.is_integer():
        raise ValueError
    return hint(value)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    return f"of type {getattr(hint, '__name__', hint)}"

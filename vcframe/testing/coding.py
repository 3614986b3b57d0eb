"""Checks of what goes into a codec and comes out again: pictures, bytes, facts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vcframe.codec import Codec, CodecError, Image
from vcframe.testing import pictures
from vcframe.testing.failure import CheckFailed, require

SIZES = ((1, 1), (2, 3), (7, 5), (1, 40), (17, 16), (33, 31), (48, 64), (5000, 3), (3, 5000), (600, 800))
MAX_LIKENESS_ERROR = 12.0
"""Mean absolute error of a picture at the best quality; 4:2:0 on text and noise stays well below."""
MAX_FLAT_ERROR = 4
"""Largest error of one colour at the best quality; conversion to YCbCr and back rounds twice."""
NUM_THREADS = 4


def shape_and_dtype(codec: Codec) -> None:
    """What was encoded comes back as a C-contiguous uint8 array of the same shape."""
    for image in (pictures.photograph(), pictures.text(), pictures.noise(), pictures.flat((9, 99, 199))):
        for quality in _three(codec):
            decoded = codec.decode(codec.encode(image, quality))
            require(
                isinstance(decoded, np.ndarray), f"decode returned {type(decoded).__name__}, not an array"
            )
            found = f"{decoded.dtype} {decoded.shape}"
            require(
                decoded.dtype == np.uint8 and decoded.shape == image.shape,
                f"uint8 {image.shape} went in and {found} came out at quality {quality:g}",
            )
            require(decoded.flags.c_contiguous, "the decoded array is not C-contiguous")


def sizes(codec: Codec) -> None:
    """Odd, one-pixel, narrow, wide and large pictures keep their size."""
    for height, width in SIZES:
        if codec.traits.min_side <= min(height, width) and max(height, width) <= codec.traits.max_side:
            _require_same_size(codec, height, width)


def largest_side(codec: Codec) -> None:
    """A picture as wide or as high as `traits.max_side` is coded."""
    short, long = codec.traits.min_side, codec.traits.max_side
    if short * long <= codec.max_pixels:
        _require_same_size(codec, short, long)
        _require_same_size(codec, long, short)


def grey(codec: Codec) -> None:
    """Grey pictures stay `(H, W)` where `traits.grey` says so, and are refused elsewhere."""
    image = pictures.photograph(grey=True)
    if not codec.traits.grey:
        _require_refused(codec, image, "a grey picture, which traits.grey rules out")
        return
    data = codec.encode(image, _three(codec)[1])
    decoded, probed = codec.decode(data), codec.probe(data)
    require(
        decoded.dtype == np.uint8 and decoded.shape == image.shape,
        f"grey {image.shape} went in and {decoded.dtype} {decoded.shape} came out",
    )
    require(probed == (*image.shape, 1), f"probe says {probed} of a grey picture of {image.shape}")


def likeness(codec: Codec) -> None:
    """At the best quality photograph, text, noise and single colours look as they went in."""
    best = codec.quality_scale.sweep[-1]
    for name in ("photograph", "text", "noise", "corner"):
        image: Image = getattr(pictures, name)()
        error = _difference(image, codec.decode(codec.encode(image, best))).mean()
        require(error < MAX_LIKENESS_ERROR, f"{name}: mean error {error:.1f} of 255 at quality {best:g}")
    for colour in pictures.FLAT_COLOURS:
        image = pictures.flat(colour)
        worst = _difference(image, codec.decode(codec.encode(image, best))).max()
        require(worst <= MAX_FLAT_ERROR, f"colour {colour}: off by {worst} of 255 at quality {best:g}")


def input_untouched(codec: Codec) -> None:
    """Encoding leaves the caller's array as it was."""
    for image in pictures.photographs(codec):
        before = image.copy()
        codec.encode(image, _three(codec)[1])
        require(np.array_equal(image, before), f"encode changed its input {image.shape}")


def memory_order(codec: Codec) -> None:
    """A turned or cropped view gives the bytes of its contiguous copy."""
    quality = _three(codec)[1]
    image = pictures.photograph()
    for name, view in (("turned", image.transpose(1, 0, 2)), ("cropped", image[3:60, 7:90])):
        same = codec.encode(view, quality) == codec.encode(np.ascontiguousarray(view), quality)
        require(same, f"a {name} view gives other bytes than its copy")


def other_pictures_refused(codec: Codec) -> None:
    """Other shapes and types, empty pictures and too long sides raise CodecError."""
    long = codec.traits.max_side + 1
    for shape, dtype in (
        ((40, 40, 4), np.uint8),
        ((40, 40, 1), np.uint8),
        ((40, 40, 3), np.uint16),
        ((40, 40, 3), np.float32),
        ((0, 40, 3), np.uint8),
        ((40,), np.uint8),
        ((codec.traits.min_side, long, 3), np.uint8),
    ):
        _require_refused(codec, np.zeros(shape, dtype), f"{np.dtype(dtype)} {shape}")


def repeatable(codec: Codec) -> None:
    """The same picture and quality give the same bytes again, from another instance too."""
    for image in pictures.photographs(codec) if codec.traits.deterministic else ():
        for quality in _three(codec):
            first, again = codec.encode(image, quality), codec.encode(image, quality)
            other = type(codec).from_config(codec.config()).encode(image, quality)
            require(first == again == other, f"quality {quality:g}: {_lengths(first, again, other)}")


def call_order(codec: Codec) -> None:
    """Bytes do not depend on what was coded before."""
    low, middle, high = _three(codec)
    jobs = [(image, quality) for image in pictures.photographs(codec) for quality in (high, low)]
    jobs.append((pictures.text(), middle))
    forwards, backwards = codec, type(codec).from_config(codec.config())
    # The very first call of an instance is the matter of `repeatable`.
    for instance in (forwards, backwards):
        instance.encode(*jobs[0])
    files = [forwards.encode(*job) for job in jobs]
    reverse = [backwards.encode(*job) for job in reversed(jobs)][::-1]
    if codec.traits.deterministic:
        for (image, quality), one, other in zip(jobs, files, reverse, strict=True):
            require(one == other, f"{image.shape} at quality {quality:g}: {_lengths(one, other)} by order")


def threads(codec: Codec) -> None:
    """Four threads with one instance get the bytes and pictures of one thread."""
    for image in pictures.photographs(codec):
        quality = _three(codec)[1]
        alone = [codec.encode(image, quality) for _ in range(2)][-1]
        seen = codec.decode(alone)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            together = list(pool.map(lambda _: codec.encode(image, quality), range(2 * NUM_THREADS)))  # noqa: B023
            decoded = list(pool.map(codec.decode, [alone] * 2 * NUM_THREADS))
        if codec.traits.deterministic:
            require(set(together) == {alone}, f"encoding: {_lengths(alone, *together)} in threads")
        require(all(np.array_equal(seen, one) for one in decoded), "decoding gives other pictures in threads")


def config_survives_json(codec: Codec) -> None:
    """`config()` rebuilds an equal codec after a JSON round trip."""
    config = json.loads(json.dumps(codec.config()))
    rebuilt = type(codec).from_config(config)
    require(rebuilt == codec and rebuilt.config() == config, f"{codec!r} came back as {rebuilt!r}")


def version_is_stable(codec: Codec) -> None:
    """`version()` is one line with a number, the same at every call."""
    version = codec.version()
    again = (codec.version(), type(codec).from_config(codec.config()).version())
    require(set(again) == {version}, f"{version!r} became {again[0]!r} and {again[1]!r}")
    require(any(c.isdigit() for c in version), f"{version!r} has no version number")
    require(version.splitlines() == [version], f"{version!r} is not one line")


CHECKS = (
    shape_and_dtype,
    sizes,
    largest_side,
    grey,
    likeness,
    input_untouched,
    memory_order,
    other_pictures_refused,
    repeatable,
    call_order,
    threads,
    config_survives_json,
    version_is_stable,
)


def _three(codec: Codec) -> tuple[float, float, float]:
    """The worst quality, one in the middle and the best."""
    sweep = codec.quality_scale.sweep
    return sweep[0], sweep[len(sweep) // 2], sweep[-1]


def _require_same_size(codec: Codec, height: int, width: int) -> None:
    decoded = codec.decode(codec.encode(pictures.poured(height, width), _three(codec)[1]))
    require(decoded.shape == (height, width, 3), f"{(height, width, 3)} went in, {decoded.shape} came out")


def _require_refused(codec: Codec, image: Image, what: str) -> None:
    try:
        codec.encode(image, codec.quality_scale.sweep[-1])
    except CodecError:
        return
    raise CheckFailed(f"encode takes {what}; call self.check_image(image) first")


def _difference(a: Image, b: Image) -> Image:
    require(a.shape == b.shape, f"{a.shape} went in and {b.shape} came out")
    return np.asarray(np.abs(a.astype(np.int16) - b), np.uint8)


def _lengths(*files: bytes) -> str:
    return f"files of {', '.join(str(len(data)) for data in files)} bytes differ"

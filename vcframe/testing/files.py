"""Checks of a codec's files: headers, payloads, damage; and of its module, in a process of its own."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import numpy as np

from vcframe.codec import Codec, CodecError
from vcframe.testing import pictures
from vcframe.testing.failure import CheckFailed, require
from vcframe.testing.isolation import DECODED, REFUSED, Report, Stream, run_apart

PAYLOADS = (b"", b"\0", bytes(range(13)), b"\0\0\1\0\0\0\0\3\0\0", b"\xff\xd9\xff\x90" * 9, b"\0" * 255)
MAX_IMPORT_S = 0.5
"""Processor time that importing a plugin's module may take: `vcframe codecs` imports them all."""
NUM_FLIPPED = 200


def probe_agrees(codec: Codec) -> None:
    """`probe` reads the size that `decode` returns."""
    for image in (pictures.photograph(), pictures.poured(33, 31)):
        data = codec.encode(image, codec.quality_scale.sweep[-1])
        probed, decoded = codec.probe(data), codec.decode(data).shape
        require(probed == decoded, f"probe says {probed}, decode returns {decoded}")


def pixel_limit(codec: Codec) -> None:
    """`decode` refuses a header of more pixels than `max_pixels`."""
    image = pictures.photograph()
    data = codec.encode(image, codec.quality_scale.sweep[0])
    num_pixels = image.shape[0] * image.shape[1]
    options = codec.config()["options"]
    type(codec)(max_pixels=num_pixels, **options).decode(data)
    try:
        type(codec)(max_pixels=num_pixels - 1, **options).decode(data)
    except CodecError:
        return
    raise CheckFailed(f"{num_pixels} pixels are decoded by a codec of max_pixels={num_pixels - 1}")


def embed_inverts(codec: Codec) -> None:
    """`extract` returns what `embed` took, and None for a file without payload."""
    for image in pictures.photographs(codec):
        data = codec.encode(image, codec.quality_scale.sweep[1])
        require(codec.extract(data) is None, "extract finds a payload in a file that has none")
        carried = [(payload, _embedded(codec, data, payload)) for payload in PAYLOADS]
        for payload, carrying in carried:
            if carrying is not None:
                good = codec.extract(carrying) == (data, payload)
                require(good, f"a payload of {len(payload)} bytes, or its file, does not come out again")
                twice = codec.embed(carrying, b"two")
                require(
                    codec.extract(twice) == (carrying, b"two"), "of two payloads the last does not come out"
                )


def embed_is_harmless(codec: Codec) -> None:
    """A payload changes neither the picture nor the header, and costs little more than its length."""
    for image in pictures.photographs(codec):
        data = codec.encode(image, codec.quality_scale.sweep[1])
        for payload in PAYLOADS:
            carrying = _embedded(codec, data, payload)
            if carrying is not None:
                added = len(carrying) - len(data)
                require(added <= 1.5 * len(payload) + 64, f"{len(payload)} bytes cost {added}")
                require(codec.probe(carrying) == codec.probe(data), "a payload changes what probe reads")
                same = np.array_equal(codec.decode(carrying), codec.decode(data))
                require(same, f"a payload of {len(payload)} bytes changes the picture")


def truncated_refused(codec: Codec) -> None:
    """A file cut short raises CodecError, wherever it was cut."""
    _require_outcomes(codec, "truncated", (REFUSED,))


def random_bytes_refused(codec: Codec) -> None:
    """Random bytes and no bytes raise CodecError."""
    _require_outcomes(codec, "random", (REFUSED,))


def flipped_bits_contained(codec: Codec) -> None:
    """Damaged files raise CodecError or give a picture of the size that `probe` says."""
    _require_outcomes(codec, "flipped", (REFUSED, DECODED))


def imports_are_light(codec: Codec) -> None:
    """Importing the module loads neither torch nor any library but numpy, and takes no time."""
    report = _report(codec)
    names = ", ".join(report.libraries)
    require(not names, f"imports {names} at module level; import them inside the methods")
    require(report.import_s <= MAX_IMPORT_S, f"importing takes {report.import_s:.1f} s of processor time")


CHECKS = (
    probe_agrees,
    pixel_limit,
    embed_inverts,
    embed_is_harmless,
    truncated_refused,
    random_bytes_refused,
    flipped_bits_contained,
    imports_are_light,
)


def _embedded(codec: Codec, data: bytes, payload: bytes) -> bytes | None:
    """`data` with a payload, or None where the format has no place for one."""
    try:
        return codec.embed(data, payload)
    except NotImplementedError:
        return None


def _require_outcomes(codec: Codec, kind: str, allowed: tuple[str, ...]) -> None:
    for stream, outcome in _report(codec).outcomes.items():
        require(stream.kind != kind or outcome in allowed, f"{stream.label}: {outcome}")


@functools.lru_cache(maxsize=1)
def _report(codec: Codec) -> Report:
    """What four checks look at: starting a process costs more than all of them."""
    files = [
        codec.encode(image[:64, :48], codec.quality_scale.sweep[1]) for image in pictures.photographs(codec)
    ]
    carrying = _embedded(codec, files[0], b"payload") or files[0]
    streams = [stream for data in files for stream in _truncated(data)]
    return run_apart(codec, files[0], [*streams, *_random(), *_flipped(carrying)])


def _truncated(data: bytes) -> Iterator[Stream]:
    step = max(7, len(data) // 100)
    for length in sorted({*range(0, len(data), step), *range(max(0, len(data) - 8), len(data))}):
        yield Stream("truncated", f"cut after {length} of {len(data)} bytes", data[:length])


def _random() -> Iterator[Stream]:
    chance = random.Random(5)
    for data in (b"", b"\0", bytes(1000), b"\xff" * 100):
        yield Stream("random", f"{len(data)} bytes {data[:1].hex()}".rstrip(), data)
    for length in (1, 2, 5, 10, 40, 100, 1000, 10000):
        yield Stream("random", f"{length} random bytes", chance.randbytes(length))


def _flipped(good: bytes) -> Iterator[Stream]:
    """Copies with 1 to 8 bytes changed, some with a random tail."""
    chance = random.Random(7)
    for number in range(NUM_FLIPPED):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        tail = chance.randbytes(chance.choice([0, 0, 0, 50]))
        yield Stream("flipped", f"damaged copy {number}", bytes(bad) + tail)

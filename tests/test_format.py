"""docs/format.md against the golden files, and the golden files themselves, which must decode forever."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from skimage.io import imread

from vcframe import Codec, Image, VcframeError
from vcframe.coder import decompress
from vcframe.model import Model
from vcframe.registry import Registry
from vcframe.stream import StreamError, unpack

GOLDEN = Path(__file__).parent / "golden"
FILES = ["jpeg.jpg", "webp.webp", "jpeg2000.j2k", "hevc.hevc", "container.vcf", "adapted.jpg"]
CODECS = {"container.vcf": "jpeg", "adapted.jpg": "jpeg"}
"""Where the name of a file is not that of its codec."""
TOLERANCE = 1
"""Grey levels: neither the order of floating-point sums nor a decoder's last rounding is promised."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.fixture(scope="module")
def codecs(registry: Registry) -> list[Codec]:
    return [record.codec() for record in registry.codecs.values()]


@pytest.fixture(scope="module")
def find_model() -> Callable[[str, Codec], Model]:
    models = [Model.load(GOLDEN / name) for name in ("model.safetensors", "adapted.safetensors")]

    def find(model_id: str, codec: Codec) -> Model:
        (model,) = [model for model in models if model.id == model_id]
        return model

    return find


@pytest.fixture(scope="module")
def page() -> str:
    path = Path(__file__).parents[1] / "docs/format.md"
    if not path.exists():
        pytest.skip("docs/ is part of a checkout only")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parse(page: str) -> Callable[[bytes], tuple[bytes, dict[str, Any]] | None]:
    """The reader of the page, which knows nothing of vcframe."""
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    found: Callable[[bytes], tuple[bytes, dict[str, Any]] | None] = names["parse"]
    return found


def expected(name: str, what: str) -> Image:
    return np.asarray(imread(GOLDEN / f"{name.split('.')[0]}.{what}.png"))


def largest_difference(a: Image, b: Image) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


# The golden files


@pytest.mark.parametrize("name", FILES)
def test_golden_files_decode_forever(
    name: str, registry: Registry, codecs: list[Codec], find_model: Callable[[str, Codec], Model]
) -> None:
    data = (GOLDEN / name).read_bytes()
    restored = decompress(data, registry, find_model)
    assert largest_difference(restored.image, expected(name, "restored")) <= TOLERANCE
    assert restored.codec_name == CODECS.get(name, name.split(".")[0])
    unpacked = unpack(data, codecs)
    assert unpacked is not None
    description = registry.codec(unpacked.codec_name).decode(unpacked.stream)
    assert largest_difference(description, expected(name, "description")) <= TOLERANCE


@pytest.mark.parametrize("name", FILES)
def test_no_changed_byte_of_a_golden_file_decodes_as_good(
    name: str,
    page: str,
    registry: Registry,
    codecs: list[Codec],
    find_model: Callable[[str, Codec], Model],
) -> None:
    """Each byte in turn: refused; or, in the carrier's own bytes, an ordinary picture, the description.

    Of what is left, the byte that pads the chunk of WebP says nothing.
    """
    data = (GOLDEN / name).read_bytes()
    unpacked = unpack(data, codecs)
    assert unpacked is not None
    ordinary = set()
    for position in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                restored = decompress(bytes(damaged), registry, find_model)
            except VcframeError:
                continue
            if restored.model_id is None:
                ordinary.add(position)
                assert restored.coded_size == restored.image.shape[:2]
            else:
                assert (name, position) == ("webp.webp", len(data) - 1)
    # The payload and its padding are never among them.
    carrier = {offset + i for offset, row, text in rows(page, name) if framing(text) for i in range(len(row))}
    assert ordinary <= carrier
    assert (name == "container.vcf") == (not ordinary)


OTHERS = {
    "mozjpeg": ("ff d8 ff fe 00 0f 76 6d", None),
    "h264": ("00 00 01 1e 76 63", "80 00 00 01 1f 80"),
    "vvc": ("00 00 01 00 f1 76 63", "80 00 00 01 00 f9 80"),
    "av1": ("2a 0f 1f 76 63", "80"),
    "avif": ("00 00 00 13 76 63 66 72", ""),
    "heic": ("00 00 00 13 76 63 66 72", ""),
    "jpegxl": ("00 00 00 13 76 63 66 77", ""),
    "neural": ("0b 00", ""),
}
"""Before and behind a payload of 11 bytes, as the page's table says; None where the stream goes on."""


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_codecs_have_it_where_the_page_says(name: str, page: str, registry: Registry) -> None:
    assert re.search(rf"^\| .*`{name}`.* \|", page, re.MULTILINE)
    codec = registry.codecs[name].codec()
    if (reason := codec.unavailable()) is not None:
        pytest.skip(reason)
    payload, quality = b"PAYLOADPAYL", codec.quality_scale.native(0.5)
    file = codec.embed(codec.encode(np.zeros((32, 32, 3), np.uint8), quality), payload)
    before, behind = file.split(payload)
    head, tail = OTHERS[name]
    assert before.endswith(bytes.fromhex(head))
    assert tail is None or behind == bytes.fromhex(tail)


def framing(text: str) -> bool:
    return text in ("mark", "end", "binary") or text.startswith(("COM", "vcfr", "start code"))


# The page


def test_the_model_id_is_the_digest_that_the_page_describes(page: str) -> None:
    path = GOLDEN / "model.safetensors"
    digest = hashlib.sha256()
    for name, values in sorted(load_file(path).items()):
        assert values.dtype == np.dtype("<f2")
        digest.update(f"{name}{values.shape}".encode() + values.tobytes())
        if name.startswith("2.post.trunk.head"):
            assert f"`{name}{values.shape}`" in page
    assert digest.hexdigest()[:8] == Model.load(path).id == "b8eb23e6"


def rows(page: str, name: str) -> list[tuple[int, bytes, str]]:
    """`(offset, bytes, meaning)` of each line of the example of a golden file."""
    (block,) = re.findall(rf"`{re.escape(name)}`:\n\n```hex\n(.*?)```", page, re.DOTALL)
    lines = [re.fullmatch(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) *(.+)", line) for line in block.splitlines()]
    assert all(lines), "each line is offset, bytes, meaning"
    return [(int(m[1], 16), bytes.fromhex(m[2]), m[3]) for m in lines if m]


@pytest.mark.parametrize("name", FILES)
def test_the_examples_are_the_golden_files(name: str, page: str, codecs: list[Codec]) -> None:
    data = (GOLDEN / name).read_bytes()
    lines = rows(page, name)
    for offset, row, text in lines:
        assert data[offset : offset + len(row)] == row, text
    (fields,) = re.findall(rf"`{re.escape(name)}`:\n\n```hex\n.*?```\n\n```json\n(.*?)```", page, re.DOTALL)
    (raw,) = [row for _, row, text in lines if text == "payload"]
    unpacked = unpack(data, codecs)
    assert unpacked is not None
    payload = unpacked.payload
    assert json.loads(fields) == {
        "model_id": payload.model_id,
        "scale": payload.scale,
        "level": payload.level,
        "trims": list(payload.trims),
        "grey": payload.grey,
        "coefficients": list(payload.coefficients),
        "check": raw[-4:].hex(),
    }


@pytest.mark.parametrize("name", FILES)
def test_the_reader_of_the_page_reads_what_we_read(
    name: str, codecs: list[Codec], parse: Callable[[bytes], tuple[bytes, dict[str, Any]] | None]
) -> None:
    data = (GOLDEN / name).read_bytes()
    found, unpacked = parse(data), unpack(data, codecs)
    assert found is not None
    assert unpacked is not None
    stream, fields = found
    assert stream == unpacked.stream
    assert fields["model_id"] == unpacked.payload.model_id
    assert tuple(fields["trims"]) == unpacked.payload.trims
    assert tuple(fields["coefficients"]) == unpacked.payload.coefficients
    assert parse(stream) is None
    inside = data.index(stream[60:80])
    damaged = data[:inside] + bytes([data[inside] ^ 1]) + data[inside + 1 :]
    with pytest.raises(ValueError, match="damaged"):
        parse(damaged)
    with pytest.raises(StreamError, match="damaged"):
        unpack(damaged, codecs)


def test_the_reader_of_the_page_takes_zeros_in_a_payload(
    registry: Registry, parse: Callable[[bytes], tuple[bytes, dict[str, Any]] | None]
) -> None:
    """HEVC escapes them."""
    from vcframe.stream import Payload, pack

    payload = Payload("00000001", scale=1, level=0, trims=(0, 0), grey=False)
    for name in ("jpeg", "webp", "jpeg2000", "hevc"):
        codec = registry.codec(name)
        stream = codec.encode(np.full((33, 40, 3), 90, np.uint8), codec.quality_scale.native(0.5))
        found = parse(pack(codec, stream, payload))
        assert found is not None
        assert (found[0], found[1]["model_id"], found[1]["level"]) == (stream, "00000001", 0)

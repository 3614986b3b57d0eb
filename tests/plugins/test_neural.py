"""The learned codec: its file by hand, its parsing in whole numbers, its weights."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
import scipy.fft
import torch
from backends import colour, make_codec, photo, psnr, skip_without
from command_line import ok
from vcframe_plugins import _transform, neural

from vcframe import Codec, CodecError

pytestmark = skip_without("neural")

WEIGHTS = importlib.resources.files("vcframe_plugins") / "neural.safetensors"


@pytest.fixture
def codec() -> Codec:
    return make_codec("neural")


# The file


def test_the_header_names_the_weights_and_the_size(codec: Codec) -> None:
    data = codec.encode(colour(), 20)
    digest = hashlib.sha256(WEIGHTS.read_bytes()).digest()[:8]
    length = len(data) - 25
    head = b"vcn\1" + digest + struct.pack("<HHBI", 96, 145, 20, length)
    assert data[:25] == head + struct.pack("<I", zlib.crc32(head + data[25:]))
    assert length % 4 == 0
    assert codec.embed(data, b"ours") == data + b"\4\0ours"


def test_a_file_of_other_weights_is_refused_in_one_line(codec: Codec) -> None:
    data = bytearray(codec.encode(colour(), 20))
    data[4:12] = bytes(range(8))
    data[21:25] = struct.pack("<I", zlib.crc32(data[:21] + data[25:]))
    ours = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]
    with pytest.raises(CodecError, match=f"needs weights 0001020304050607, .* has {ours}: install") as raised:
        codec.decode(bytes(data))
    assert "\n" not in str(raised.value)


def test_every_changed_byte_of_the_stream_is_noticed(codec: Codec) -> None:
    data = codec.encode(colour()[:16, :24], 12)
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 0x40
        with pytest.raises(CodecError):
            codec.decode(bytes(bad))


# Parsing


def test_files_are_parsed_without_torch(codec: Codec) -> None:
    weights, data = neural.shipped_weights(), codec.encode(colour(), 20)
    script = (
        "import sys\nfrom pathlib import Path\nfrom vcframe_plugins import neural\n"
        "data = sys.stdin.buffer.read()\nassert neural.NeuralCodec().probe(data) == (96, 145, 3)\n"
        "symbols = neural.decode_symbols(neural.shipped_weights(), data[25:], (12, 19), 20)\n"
        "assert 'torch' not in sys.modules\nsys.stdout.buffer.write(symbols.tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    parsed = np.frombuffer(done.stdout, np.int32).reshape(96, 12, 19)
    assert neural.encode_symbols(weights, parsed, 20) == data[25:]


def test_any_symbols_survive(codec: Codec) -> None:
    chance = np.random.default_rng(3)
    symbols = (chance.standard_cauchy((neural.NUM_LATENTS, 5, 7)) * 40).clip(-2e9, 2e9).astype(np.int32)
    symbols[:, 0, :2] = [1 - 2**31, 2**31 - 1]
    symbols[:, 1, :4] = [-128, -127, 127, 128]
    weights = neural.shipped_weights()
    for level in (0, neural.BEST):
        body = neural.encode_symbols(weights, symbols, level)
        assert np.array_equal(neural.decode_symbols(weights, body, (5, 7), level), symbols)


def test_differences_are_summed_again() -> None:
    latents = np.random.default_rng(3).integers(-900, 900, (neural.NUM_LATENTS, 4, 6), np.int32)
    symbols = neural.to_symbols(latents)
    assert np.array_equal(symbols[:3, 2, 1:], np.diff(latents[:3, 2]))
    assert np.array_equal(symbols[:3, 1:, 0], np.diff(latents[:3, :, 0]))
    assert np.array_equal(neural.from_symbols(symbols), latents)


def test_tables_are_whole_numbers_that_sum_to_a_power_of_two() -> None:
    weights = neural.shipped_weights()
    assert weights.tables.dtype == np.int32
    assert weights.tables.min() >= 1
    assert set(weights.tables.sum(1).tolist()) == {2**24}
    assert weights.choice.shape == (neural.BEST + 1, neural.NUM_LATENTS, neural.NUM_CONTEXTS)
    assert weights.choice.max() < len(weights.tables)


# Pixels


def test_fresh_weights_are_a_block_dct() -> None:
    weights = _transform.fresh_weights(torch.Generator().manual_seed(1))
    image = np.ascontiguousarray(colour()[:16, :24])
    x_BCHW = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    latents = _transform.analyse(weights, x_BCHW, torch.tensor([2.0]))[0].numpy()
    block = image[8:16, :8].astype(float) - 128
    brightness = scipy.fft.dctn(block.sum(2) / np.sqrt(3), norm="ortho") / 2
    # The lowest: mean of brightness, of both colours, then brightness across and down.
    np.testing.assert_allclose(latents[0, 1, 0], brightness[0, 0], atol=1e-3)
    red_blue = scipy.fft.dctn((block[..., 0] - block[..., 2]) / np.sqrt(2), norm="ortho") / 2
    np.testing.assert_allclose(latents[1, 1, 0], red_blue[0, 0], atol=1e-3)
    np.testing.assert_allclose(latents[3:5, 1, 0], [brightness[0, 1], brightness[1, 0]], atol=1e-3)
    # Grey pictures have no colour to lose.
    grey = x_BCHW.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    step = torch.tensor([1.0])
    back = _transform.synthesise(weights, _transform.analyse(weights, grey, step), step)
    torch.testing.assert_close(back, grey, atol=1e-2, rtol=0)


def test_the_training_pays(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bytes of JPEG, and with the networks that training began with, pictures are worse."""
    image = np.ascontiguousarray(photo("chelsea")[40:296, 50:434])
    data = codec.encode(image, 18)
    trained = psnr(codec.decode(data), image)
    jpeg = make_codec("jpeg")
    files = (jpeg.encode(image, quality) for quality in jpeg.quality_scale.steps())
    fits = [file for file in files if len(file) <= len(data)]
    assert trained > psnr(jpeg.decode(fits[-1]), image)
    weights = neural.shipped_weights()
    fresh = _transform.fresh_weights(torch.Generator().manual_seed(0))
    monkeypatch.setitem(vars(weights), "networks", fresh)
    data = codec.encode(image, 18)
    assert psnr(codec.decode(data), image) < trained


def test_threads_of_torch_do_not_reach_the_file(codec: Codec) -> None:
    before = torch.get_num_threads()
    try:
        files = []
        for count in (1, 3):
            torch.set_num_threads(count)
            files.append(codec.encode(colour(), 30))
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


# Weights


def test_the_weights_are_small_and_have_a_card() -> None:
    content = WEIGHTS.read_bytes()
    assert len(content) < 1_000_000
    (size,) = struct.unpack_from("<Q", content)
    card = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["card"])
    assert {"training", "pictures", "vcframe", "torch"} <= card.keys()


def test_missing_weights_are_named(codec: Codec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    neural.shipped_weights.cache_clear()
    monkeypatch.setattr("vcframe_plugins.neural.importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(CodecError, match="weights cannot be read"):
        codec.encode(colour(), 20)


def test_training_writes_weights_that_work(tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    script = Path(__file__).parents[2] / "benchmarks/neural_codec.py"
    pictures = Path(__file__).parents[1] / "golden"
    length = ["--minutes", "0.001", "--calibration", "1"]
    arguments = [script, "--data", pictures / "*.png", *length, "--out", out]
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)
    arrays = safetensors.numpy.load_file(out)
    assert np.abs(arrays["synthesis.2.weight"]).max() > 0
    weights = neural.read_weights(out.read_bytes())
    symbols = np.zeros((neural.NUM_LATENTS, 2, 2), np.int32)
    assert len(neural.encode_symbols(weights, symbols, 0)) < 40


# The rest of vcframe


def test_a_system_is_trained_around_it_and_compresses(tmp_path: Path) -> None:
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    photograph = pictures / "photo.png"
    PIL.Image.fromarray(colour()).save(photograph)
    PIL.Image.fromarray(colour()[:, ::-1]).save(pictures / "turned.png")
    length = ("--steps", 5, "--scale", 2, "--device", "cpu")
    ok("train", "--codec", "neural", "--data", pictures, "--out", run, *length)
    coded, restored = tmp_path / "photo.vcn", tmp_path / "photo2.png"
    model = ("--model", run / "model.safetensors")
    ok("compress", photograph, coded, "--codec", "neural", "-q", 20, "--scale", 2, *model)
    assert coded.read_bytes().startswith(b"vcn\1")
    ok("decompress", coded, restored, *model)
    assert PIL.Image.open(restored).size == (145, 96)

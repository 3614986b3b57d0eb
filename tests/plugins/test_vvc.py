"""VVC against imageio-ffmpeg's own decoder, Pillow's colour conversion, HEVC and the syntax of H.266."""

from __future__ import annotations

import subprocess
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from backends import colour, grey, largest_difference, make_codec, photo, psnr, skip_without

from vcframe import Codec, CodecError, Image

pytestmark = skip_without("vvc")

SPS, PPS, PREFIX_APS, IDR_N_LP, CLOSING = 15, 16, 17, 8, 31


@pytest.fixture
def codec() -> Codec:
    return make_codec("vvc")


@pytest.fixture(scope="module")
def image() -> Image:
    """Of even width: PyAV gives out no other planes."""
    return np.ascontiguousarray(colour()[:, :144])


@pytest.fixture(scope="module")
def data(image: Image) -> bytes:
    return make_codec("vvc").encode(image, 42)


def kinds(data: bytes) -> list[int]:
    """The `nal_unit_type` of every unit (annex B)."""
    return [part[1] >> 3 for part in data.split(b"\0\0\1")[1:]]


def frame_of(data: bytes) -> Any:
    context: Any = av.CodecContext.create("vvc", "r")
    context.thread_count = 1  # as ours: with more, FFmpeg's decoder now and then differs from itself
    frames = list(context.decode(av.Packet(data))) + list(context.decode(None))
    assert len(frames) == 1
    return frames[0]


def planes_of(data: bytes) -> list[Any]:
    """As PyAV decodes them, 10 bits a sample."""
    return [
        np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2)[: plane.height, : plane.width]
        for plane in frame_of(data).planes
    ]


PLANES = "-threads 1 -f vvc -i pipe:0 -f rawvideo pipe:2"


def ffmpeg(arguments: str, data: bytes) -> bytes:
    """What imageio-ffmpeg's program writes when fed with `data`."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "fatal", *arguments.split()]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stderr


def vvenc_file(image: Image, arguments: str) -> bytes:
    """A picture from libvvenc with its own defaults, in colour."""
    height, width = image.shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -video_size {width}x{height} -i pipe:0"
    return ffmpeg(f"{source} -c:v libvvenc -preset faster {arguments} -f vvc pipe:2", image.tobytes())


# What the file holds


def test_a_file_is_parameter_sets_one_slice_and_the_closing_unit(codec: Codec) -> None:
    for image in (colour(), grey()):
        data = codec.encode(image, 30)
        assert [kind for kind in kinds(data) if kind != PREFIX_APS] == [SPS, PPS, IDR_N_LP, CLOSING]
        # VVenC's remark on its settings, which it writes to standard output.
        assert b"ALF" not in data
    assert len(codec.encode(np.zeros((1, 1), np.uint8), 30)) < 100


def test_pictures_are_flagged_as_full_range_bt601(codec: Codec, data: bytes) -> None:
    for name, file in (("yuv420p10le", data), ("gray10le", codec.encode(grey(), 42))):
        frame = frame_of(file)
        # Matrix 6 is SMPTE 170M, range 2 is full.
        assert (frame.format.name, int(frame.color_range), int(frame.colorspace)) == (name, 2, 6)


def test_planes_hold_bt601_with_10_bits_and_averaged_chroma(codec: Codec, image: Image) -> None:
    luma, *chroma = planes_of(codec.encode(image, 10))
    # Pillow's conversion is JFIF's: full-range BT.601, in 8 bits.
    y, *halves = (np.asarray(plane, float) for plane in PIL.Image.fromarray(image).convert("YCbCr").split())
    assert np.abs(luma * (255 / 1023) - y).max() <= 3
    for ours, reference in zip(chroma, halves, strict=True):
        means = reference.reshape(48, 2, 72, 2).mean(axis=(1, 3))
        assert np.abs((ours - 512.0) / 4 + 128 - means).max() <= 3


def test_flat_pictures_of_every_grey_come_back(codec: Codec) -> None:
    """8 bits to 10 and back lose nothing."""
    steps = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 8, axis=0), 8, axis=1)
    assert largest_difference(codec.roundtrip(steps, 10)[0], steps) <= 2


def test_quality_is_the_qp_of_the_picture_itself(codec: Codec, image: Image) -> None:
    """VVenC subtracts 3 from the QP of intra pictures by default; then 63 cannot be reached."""
    wanted = planes_of(codec.encode(image, 10))[0].astype(float)
    full_range = "-vf scale=out_range=full:out_color_matrix=bt601 -qpa 0 -g 1 -qp 36"
    errors = [
        np.square(planes_of(data)[0] - wanted).mean()
        for data in (vvenc_file(image, full_range), codec.encode(image, 33))
    ]
    assert 10 * np.log10(errors[0] / errors[1]) == pytest.approx(0, abs=0.3)


def test_options_change_the_bytes_and_have_stated_defaults(codec: Codec, image: Image, data: bytes) -> None:
    assert codec == make_codec("vvc", preset="faster")
    assert make_codec("vvc", preset="fast").encode(image, 42) != data


def test_files_are_smaller_than_hevc_s_of_the_same_psnr() -> None:
    picture = np.ascontiguousarray(photo("coffee")[:256, :384])
    hevc = make_codec("hevc")
    files = [hevc.encode(picture, qp) for qp in range(42, 48)]
    for preset, share in (("faster", 1), ("fast", 0.87)):
        codec = make_codec("vvc", preset=preset)
        data = codec.encode(picture, 46)
        enough = psnr(codec.decode(data), picture)
        as_good = min(len(file) for file in files if psnr(hevc.decode(file), picture) >= enough)
        assert len(data) < share * as_good


# Sizes and second decoders


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (17, 16), (33, 31), (96, 145), (5000, 3)], ids=str)
def test_the_program_decodes_the_planes_that_pyav_decodes(codec: Codec, size: tuple[int, int]) -> None:
    height, width = size
    for source in (colour(), grey()):
        if source.ndim == 2 and width % 2:
            continue  # PyAV gives out planes of even width only.
        picture = np.resize(source, size + source.shape[2:])
        data = codec.encode(picture, 32)
        planes = planes_of(data)
        # 4:2:0 counts chroma samples: the closing unit says whether a side is odd.
        odd = (height % 2, width % 2) if source.ndim == 3 else (0, 0)
        assert planes[0].shape == (height + odd[0], width + odd[1])
        assert ffmpeg(PLANES, data) == b"".join(p.tobytes() for p in planes)
        assert codec.probe(data) == (*picture.shape, 1)[:3]
        assert codec.decode(data).shape == picture.shape


def test_the_program_does_not_see_a_payload(codec: Codec, data: bytes) -> None:
    carrying = codec.embed(data, bytes(range(13)))
    first, second = (ffmpeg(PLANES, file) for file in (data, carrying))
    assert len(first) == 2 * 96 * 144 * 3 // 2
    assert first == second


def test_padding_repeats_the_edge_so_it_costs_little(codec: Codec) -> None:
    whole, cut = (len(codec.encode(np.ascontiguousarray(grey()[:, :width]), 30)) for width in (72, 65))
    assert cut < whole


def test_noise_that_takes_more_than_a_byte_a_pixel_is_coded(codec: Codec) -> None:
    """FFmpeg reserves one for each that it hands over; then the picture is extended."""
    for shape in ((64, 80, 3), (16, 16, 3), (90, 31)):
        noise = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
        data = codec.encode(noise, 10)
        assert len(data) > shape[0] * shape[1]
        assert codec.probe(data) == (*shape, 1)[:3]
        assert codec.decode(data).shape == shape


# Damage and limits


def sps(
    width: int,
    height: int,
    window: tuple[int, int, int, int] | None = None,
    *,
    depth: int = 10,
    full: bool = False,
) -> bytes:
    """A sequence parameter set of a 4:2:0 picture, written after clause 7.3.2.4.

    `full` adds what may be left out: constraints with two more than are known, sub-layers and a sub-profile.
    """

    def golomb(value: int) -> str:
        return f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}"

    def aligned(bits: str) -> str:
        return bits + "0" * (-len(bits) % 8)

    bits = "0000" + "0000" + ("010" if full else "000") + "01" + "01" + "1"
    bits += f"{1:07b}" + "0" + f"{51:08b}" + "1" + "0"
    bits = aligned(bits + ("1" + "01" * 35 + "0" + f"{2:08b}" + "11" if full else "0"))
    bits = aligned(bits + ("10" if full else ""))
    bits += (f"{35:08b}" + f"{1:08b}" + "1" * 32) if full else f"{0:08b}"
    bits += "0" + ("11" if full else "0") + golomb(width) + golomb(height)
    bits += ("0" if window is None else "1" + "".join(map(golomb, window))) + "0" + golomb(depth - 8)
    bits = aligned(bits + "1" * 40)
    body = bytearray()
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if byte <= 3 and body[-2:] == b"\0\0":
            body.append(3)
        body.append(byte)
    return b"\0\0\0\1" + bytes([0, SPS << 3 | 1]) + bytes(body)


def with_sps(data: bytes, *sets: bytes) -> bytes:
    """Replace the parameter set of one of our files, the first unit."""
    return b"".join(sets) + data[data.index(b"\0\0\0\1", 4) :]


def test_probe_reads_a_parameter_set_written_by_the_book(codec: Codec, data: bytes) -> None:
    for full in (False, True):
        assert codec.probe(with_sps(data, sps(144, 96, full=full))) == (96, 144, 3)
        assert codec.probe(with_sps(data, sps(144, 112, (0, 3, 1, 4), full=full))) == (102, 138, 3)
        assert codec.probe(with_sps(data, sps(4096, 2160, full=full))) == (2160, 4096, 3)


def test_huge_pictures_are_refused(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError, match="60000x60000 coded pixels for 60000x60000"):
        codec.decode(with_sps(data, sps(60_000, 60_000)))
    with pytest.raises(CodecError, match="16000x16000 coded pixels for 2x2"):
        codec.decode(with_sps(data, sps(16_000, 16_000, (0, 7_999, 0, 7_999))))


def test_other_streams_are_refused_in_one_line(codec: Codec, image: Image, data: bytes) -> None:
    with pytest.raises(CodecError, match="2 sequence parameter sets"):
        codec.decode(with_sps(data, sps(144, 96), sps(160, 96)))
    with pytest.raises(CodecError, match="only 10-bit"):
        codec.decode(with_sps(data, sps(144, 96, depth=8)))
    with pytest.raises(CodecError, match="sequence parameter set is damaged"):
        codec.decode(with_sps(data, sps(144, 96)[:9]))
    foreign = vvenc_file(image, "-qp 36")
    with pytest.raises(CodecError, match="truncated, or was not written by this codec"):
        codec.decode(foreign)
    with pytest.raises(CodecError, match="full range"):
        codec.decode(foreign + data[-6:])


def test_more_than_one_picture_is_refused(codec: Codec, data: bytes) -> None:
    slice_at = data.index(b"\0\0\1" + bytes([0, IDR_N_LP << 3 | 1]))
    with pytest.raises(CodecError):
        codec.decode(data[:-6] + data[slice_at:])


# The program


def test_a_program_without_libvvenc_is_named(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    import imageio_ffmpeg

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "true")
    reason = codec.unavailable()
    assert reason is not None
    assert "no libvvenc" in reason
    assert "pip install 'vcframe[vvc]'" in reason


def test_what_the_program_complains_of_is_passed_on(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcframe_plugins.vvc.PLANES", {1: "nonesuch"})
    with pytest.raises(CodecError, match=r"^vvc: encoding failed: FFmpeg ended with status \d+: ") as raised:
        codec.encode(colour(), 30)
    assert raised.value.__cause__ is not None


def test_a_program_that_hangs_is_given_up(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcframe_plugins.vvc.START_TIMEOUT_S", 0.001)
    monkeypatch.setattr("vcframe_plugins.vvc.PIXEL_TIMEOUT_S", 0)
    with pytest.raises(CodecError, match=r"^vvc: encoding failed: .* timed out"):
        codec.encode(grey(), 30)

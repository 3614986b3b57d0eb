"""mozjpeg: smaller than libjpeg-turbo's files at equal quality, and JPEG files for everyone."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image
import PIL.JpegImagePlugin
import pytest
from backends import colour, decode_ffmpeg, grey, make_codec, photo, psnr, skip_without

from vcframe import Image, UsageError

pytestmark = skip_without("mozjpeg")


def opened(data: bytes) -> Any:
    return PIL.Image.open(io.BytesIO(data))


def turbo_file(image: Image, quality: int) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=True, progressive=True)
    return out.getvalue()


def test_files_are_smaller_than_libjpeg_turbo_s_of_the_same_psnr() -> None:
    image = np.ascontiguousarray(photo("coffee")[:256, :384])
    codec = make_codec("mozjpeg", tables=1)
    for quality in (10, 30, 60):
        data = codec.encode(image, quality)
        enough = psnr(codec.decode(data), image)
        files = [turbo_file(image, q) for q in range(5, 96)]
        as_good = min(len(file) for file in files if psnr(np.asarray(opened(file)), image) >= enough)
        assert len(data) < 0.93 * as_good


def test_the_default_tables_are_mozjpeg_s_own() -> None:
    # N. Robidoux's, the first row at quality 50 (mozjpeg 4.0.3, jcparam.c, table 3); 4:2:0, progressive.
    picture = opened(make_codec("mozjpeg").encode(colour(), 50))
    assert picture.quantization[0][:8] == [16, 16, 16, 18, 25, 37, 56, 85]
    assert picture.info["progression"]
    assert PIL.JpegImagePlugin.get_sampling(picture) == 2
    full = opened(make_codec("mozjpeg", subsampling="4:4:4").encode(colour(), 50))
    assert PIL.JpegImagePlugin.get_sampling(full) == 0


def test_flat_tables_are_flat() -> None:
    picture = opened(make_codec("mozjpeg", tables=1).encode(colour(), 50))
    assert set(picture.quantization[0]) == {16}


def test_tables_outside_mozjpeg_s_are_refused() -> None:
    for tables in (-1, 9):
        with pytest.raises(UsageError, match="tables"):
            make_codec("mozjpeg", tables=tables)


def test_grey_is_one_component() -> None:
    data = make_codec("mozjpeg").encode(grey(), 40)
    assert opened(data).mode == "L"


def test_another_choice_of_jpeglib_s_library_is_left_alone() -> None:
    import jpeglib

    codec = make_codec("mozjpeg")
    alone = codec.encode(colour(), 40)
    with jpeglib.version("6b"):
        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(lambda _: codec.encode(colour(), 40), range(6))) == {alone}
        assert jpeglib.version.get() == "6b"


def test_payloads_are_told_from_those_of_the_jpeg_backend() -> None:
    ours, jpeg = make_codec("mozjpeg"), make_codec("jpeg")
    # FFmpeg's planes come out of PyAV in even widths only.
    data = ours.encode(colour()[:, :144], 40)
    carrying = ours.embed(data, b"payload")
    assert jpeg.extract(carrying) is None
    assert ours.extract(jpeg.embed(data, b"payload")) is None
    assert np.array_equal(jpeg.decode(carrying), ours.decode(data))
    assert np.array_equal(decode_ffmpeg(carrying, "mjpeg"), decode_ffmpeg(data, "mjpeg"))

"""The Python API: the same files as the coder's, names and paths for what it takes, lazy and typed."""

from __future__ import annotations

import doctest
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from command_line import fresh_model
from vcframe_plugins.jpeg import JpegCodec

import vcframe
from vcframe import Image, ImageError, UsageError, VcframeError, api, coder, pillow
from vcframe.model import ModelError
from vcframe.registry import Registry

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def image() -> Image:
    return np.ascontiguousarray(skimage.data.chelsea()[100:163, 100:196])


@pytest.fixture
def installed(saved: Path, monkeypatch: pytest.MonkeyPatch, no_shipped_models: None) -> None:
    """One model for JPEG at half size, plain resampling."""
    monkeypatch.setenv("VCFRAME_MODELS", str(saved))


@pytest.mark.parametrize("module", [api, pillow])
def test_the_examples_in_the_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.failed == 0
    assert result.attempted >= 3


def test_a_codec_by_name_has_the_options_that_the_model_was_trained_with(image: Image) -> None:
    model = fresh_model("jpeg", subsampling="4:4:4")
    named, own = (vcframe.compress(image, c, quality=30, scale=2, model=model) for c in ("jpeg", JpegCodec()))
    layers = [PIL.Image.open(io.BytesIO(data)).layer[0][1:3] for data in (named, own)]  # type: ignore[attr-defined]
    assert layers == [(1, 1), (2, 2)]


@pytest.mark.usefixtures("installed")
def test_the_file_is_the_coder_s_and_comes_back(image: Image, tmp_path: Path) -> None:
    codec = Registry.load().codec("jpeg")
    data = vcframe.compress(image, "jpeg", quality=30, scale=2)
    assert data == coder.compress(image, codec, quality=30, scale=2, model=fresh_model("jpeg")).data
    restored = vcframe.decompress(data)
    assert restored.shape == image.shape
    (tmp_path / "photo.jpg").write_bytes(data)
    assert np.array_equal(vcframe.open(tmp_path / "photo.jpg"), restored)
    assert np.array_equal(vcframe.open(str(tmp_path / "photo.jpg")), restored)
    assert vcframe.decompress(vcframe.compress(image[:, :, 0], "jpeg", target_bpp=2.0)).shape == (63, 96)


@pytest.mark.usefixtures("installed")
def test_a_model_is_a_file_an_id_or_a_loaded_one(image: Image, saved: Path) -> None:
    model = fresh_model("jpeg")
    ways = [model, model.id, saved / "jpeg.safetensors", str(saved / "jpeg.safetensors"), None]
    files = [vcframe.compress(image, "jpeg", quality=30, scale=2, model=way) for way in ways]
    assert len(set(files)) == 1
    pictures = [vcframe.decompress(files[0], model=way) for way in ways]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_plain_files_and_options(image: Image) -> None:
    codec = Registry.load().codec("jpeg", subsampling="4:4:4")
    data = vcframe.compress(image, codec, quality=60, plain=True)
    assert data == codec.encode(image, 60)
    with PIL.Image.open(io.BytesIO(data)) as seen:
        assert np.array_equal(vcframe.decompress(data), np.asarray(seen))


def test_a_file_that_no_network_restores_has_the_filters_that_networks_do_without() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    codec = Registry.load().codec("webp", loop_filter=False)
    data = vcframe.compress(image, "webp", quality=30, model=fresh_model("webp", loop_filter=False))
    assert data == codec.unaided().encode(image, 30) != codec.encode(image, 30)


@pytest.mark.usefixtures("installed")
def test_errors_are_one_line_with_the_remedy(image: Image, tmp_path: Path) -> None:
    golden = (GOLDEN / "jpeg.jpg").read_bytes()
    for wrong in (image.astype(float), image[:0], image[..., :2], image[0, 0], [[1, 2]], None):
        with pytest.raises(ImageError, match="a picture is a uint8 array"):
            vcframe.compress(wrong, "jpeg", quality=30)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="either plain or a model"):
        vcframe.compress(image, "jpeg", quality=30, plain=True, model="0badcafe")
    with pytest.raises(UsageError, match="either a quality or a target"):
        vcframe.compress(image, "jpeg")
    with pytest.raises(VcframeError, match="unknown codec 'jpg'"):
        vcframe.compress(image, "jpg", quality=30)
    with pytest.raises(ModelError, match=r"'b8eb23e6'.*installed ids: [0-9a-f]{8}.*\$VCFRAME_MODELS"):
        vcframe.decompress(golden)
    with pytest.raises(UsageError, match="was made with model b8eb23e6"):
        vcframe.decompress(golden, model=fresh_model("jpeg"))
    with pytest.raises(VcframeError, match=r"outside 1\.\.100 in all"):
        vcframe.decompress(golden, model=GOLDEN / "model.safetensors", max_pixels=100)
    with pytest.raises(FileNotFoundError):
        vcframe.open(tmp_path / "none.jpg")


def test_importing_is_cheap_and_unknown_names_are_errors() -> None:
    code = "import sys, vcframe; print({'torch', 'PIL', 'vcframe.api'} & set(sys.modules) or None)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "None\n"
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        vcframe.compres  # noqa: B018


def test_type_checkers_see_every_lazy_name() -> None:
    """They read the branch that never runs, and nothing else: no `__getattr__` hides a misspelled name."""
    source = Path(vcframe.__file__).read_text()
    for name in ("compress", "decompress", "open"):
        assert re.search(rf"if TYPE_CHECKING:\n(    .*\n)*    from vcframe.api import .*\b{name}\b", source)
        assert getattr(vcframe, name) is getattr(api, name)
        assert name in vcframe.__all__
    assert "if not TYPE_CHECKING:" in source
    assert (Path(vcframe.__file__).parent / "py.typed").exists()


class TestPillow:
    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ID", "OPEN", "EXTENSION"):
            monkeypatch.setattr(PIL.Image, name, getattr(PIL.Image, name).copy())
        pillow.register()
        monkeypatch.setenv("VCFRAME_MODELS", str(GOLDEN))

    def test_a_container_opens_restored(self) -> None:
        with PIL.Image.open(GOLDEN / "container.vcf") as opened:
            assert (opened.format, opened.mode, opened.size) == ("VCF", "RGB", (65, 47))
            assert np.array_equal(np.asarray(opened), vcframe.open(GOLDEN / "container.vcf"))

    def test_the_picture_is_restored_only_when_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(data: bytes) -> Image:
            raise VcframeError("not now")

        monkeypatch.setattr(pillow, "decompress", refuse)
        opened = PIL.Image.open(GOLDEN / "container.vcf")
        with pytest.raises(OSError, match="not now"):
            opened.load()
        monkeypatch.undo()
        opened.load()

    def test_ordinary_files_stay_pillow_s_own(self) -> None:
        for name in ("jpeg.jpg", "webp.webp"):
            with PIL.Image.open(GOLDEN / name) as opened:
                assert opened.format in ("JPEG", "WEBP")
                assert opened.size == (33, 24)
        with pillow.VcfImageFile(GOLDEN / "jpeg.jpg") as restored:
            assert (restored.mode, restored.size) == ("L", (65, 47))
            assert np.array_equal(np.asarray(restored), vcframe.open(GOLDEN / "jpeg.jpg"))

    def test_damage_and_foreign_files(self) -> None:
        data = (GOLDEN / "container.vcf").read_bytes()
        with pytest.raises(OSError, match="damaged"):
            PIL.Image.open(io.BytesIO(data[:-1]))
        with pytest.raises(PIL.UnidentifiedImageError):
            PIL.Image.open(io.BytesIO(b"VCF0" + data[4:]))
        with pytest.raises(SyntaxError, match="payload"):
            pillow.VcfImageFile(GOLDEN / "jpeg.description.png")

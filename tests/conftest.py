"""What several test files share: a toy codec, photographs, the published results beside the checkout."""

from __future__ import annotations

import importlib
import importlib.resources
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from vcframe import Codec, CodecError, Image, QualityScale, Traits


class ToyCodec(Codec):
    """Keeps the top bits of every sample and deflates them: lossy, deterministic, free of any library."""

    name = "toy"
    extension = ".toy"
    quality_scale = QualityScale(1, 8, 1, (1, 2, 4, 8), "bits kept of every sample")
    traits = Traits(block=1, max_side=4096)

    @dataclass(frozen=True)
    class Options:
        level: int = 6
        strategy: Literal["fast", "best"] = "best"
        filtered: bool = False
        gain: float = 1.0
        window: int | None = None

    def encode(self, image: Image, quality: float) -> bytes:
        image = self.check_image(image)
        lost = 8 - int(self.quality_scale.check(quality))
        channels = 3 if image.ndim == 3 else 1
        kept = (image >> lost) << lost
        return struct.pack("<3sIIB", b"TOY", *image.shape[:2], channels) + zlib.compress(kept, 6)

    def decode(self, data: bytes) -> Image:
        height, width, channels = self.check_stream(data)
        try:
            samples = np.frombuffer(zlib.decompress(data[12:]), np.uint8)
        except zlib.error as error:
            raise CodecError(f"toy: {error}") from error
        return samples.reshape((height, width, 3) if channels == 3 else (height, width)).copy()

    def version(self) -> str:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def probe(self, data: bytes) -> tuple[int, int, int]:
        if len(data) < 12 or data[:3] != b"TOY":
            raise CodecError("toy: not a toy stream")
        _, height, width, channels = struct.unpack("<3sIIB", data[:12])
        return height, width, channels


@pytest.fixture
def toy() -> ToyCodec:
    return ToyCodec()


@pytest.fixture(scope="session")
def photo() -> Image:
    """A colour photograph, 200 rows of 312 columns: neither side a multiple of 16."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[40:240, 100:412])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published pictures and results; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VCFRAME_SHARED", Path(__file__).parents[1] / "../shared"))
    if not folder.is_dir():
        pytest.skip("the folder of published results is absent (set VCFRAME_SHARED)")
    return folder


class Installer:
    """Leaves distributions on the path as an installer would; the environment's own plugins stay."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.modules: list[str] = []

    def __call__(self, distribution: str, plugins: dict[str, str], **modules: str) -> None:
        """`install("dist-name", {"plugin": "module"}, module="source")`; version 1.5."""
        info = self.site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = [f"{name} = {module}" for name, module in plugins.items()]
        (info / "entry_points.txt").write_text("\n".join(["[vcframe]", *lines, ""]))
        for module, source in modules.items():
            (self.site / f"{module}.py").write_text(source)
            self.modules.append(module)
        importlib.invalidate_caches()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    installer = Installer(site)
    yield installer
    for module in installer.modules:
        sys.modules.pop(module, None)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model for JPEG."""
    from command_line import fresh_model

    folder = tmp_path_factory.mktemp("models")
    fresh_model("jpeg").save(folder / "jpeg.safetensors")
    return folder


@pytest.fixture
def no_shipped_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is installed must not depend on what the package ships."""
    empty = tmp_path / "nothing_shipped"
    empty.mkdir()
    files = importlib.resources.files
    monkeypatch.setattr(
        importlib.resources, "files", lambda package: empty if package == "vcframe.models" else files(package)
    )
    monkeypatch.delenv("VCFRAME_MODELS", raising=False)

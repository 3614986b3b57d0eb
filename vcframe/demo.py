"""`vcframe demo`: train a small model, then compress a photograph that it has not seen, and compare.

The comparison is at the point where the plain codec is at its end: its smallest file of the photograph. The
vcframe file is the best one that is not larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcframe.codec import Image, UsageError
from vcframe.coder import compress, decompress
from vcframe.images import write_bytes, write_image
from vcframe.learning import Progress, TrainConfig, fit
from vcframe.metrics import PSNR_CAP_DB, psnr, ssim
from vcframe.model import Model
from vcframe.registry import Registry

if TYPE_CHECKING:
    from rich.console import Console

CODEC = "webp"
TRAINING = "training"
DETAIL = (slice(40, 200), slice(130, 386))
"""Rows and columns of the photograph that the comparison shows enlarged."""
ZOOM = 2
MARGIN = 12


@dataclass(frozen=True)
class DemoRow:
    """One version of the photograph."""

    title: str
    file: Path
    num_bytes: int
    bpp: float
    psnr_db: float
    ssim: float
    image: Image

    @property
    def distortion(self) -> str:
        """PSNR in words."""
        return "lossless" if self.psnr_db >= PSNR_CAP_DB else f"{self.psnr_db:.2f} dB"

    @property
    def caption(self) -> str:
        """Two lines for below the picture."""
        figures = f"{self.bpp:.3f} bpp, {self.distortion}, SSIM {self.ssim:.4f}"
        return f"{self.title}: {self.num_bytes:,} bytes\n{figures}"


@dataclass(frozen=True)
class Demo:
    """What the demonstration made."""

    rows: tuple[DemoRow, ...]
    """The original, the plain codec, vcframe."""
    model_path: Path
    restored: Path
    comparison: Path
    training: str
    """What the model was trained on, and for how long."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels, ready for `json.dumps`."""
        figures = ("title", "num_bytes", "bpp", "psnr_db", "ssim")
        return {
            "files": [
                {"file": str(row.file)} | {name: getattr(row, name) for name in figures} for row in self.rows
            ],
            "model_path": str(self.model_path),
            "restored": str(self.restored),
            "comparison": str(self.comparison),
            "training": self.training,
        }


def run_demo(registry: Registry, out: Path, minutes: float, on_progress: Callable[[Progress], None]) -> Demo:
    """Train for `minutes`, compress, restore, compare, and leave every file in the folder `out`.

    An interrupted or finished training in `out` is continued. Raises `UsageError` for a folder that holds
    other things, and what `fit` raises.
    """
    if out.exists() and not (out.is_dir() and ((out / TRAINING).is_dir() or not any(out.iterdir()))):
        raise UsageError(f"{out} is not an empty folder nor one of an earlier demo: name another")
    codec = registry.codec(CODEC)
    config = TrainConfig.checked(codec=codec.config(), scale=2, minutes=minutes, out=out / TRAINING)
    trained = fit(config, registry, on_progress)
    model = Model.load(trained.model_path)

    photo = photograph()
    plain = compress(photo, codec, quality=codec.quality_scale.sweep[0])
    ours = compress(photo, codec, target_bpp=plain.bpp, model=model)
    files = {name: out / name for name in ("original.png", "plain.webp", "vcframe.webp")}
    write_image(files["original.png"], photo)
    write_bytes(files["plain.webp"], plain.data)
    write_bytes(files["vcframe.webp"], ours.data)
    # Everything that is shown comes from the files as they are on disk.
    restored = decompress(files["vcframe.webp"].read_bytes(), registry, lambda model_id, codec: model).image
    images = (photo, codec.decode(files["plain.webp"].read_bytes()), restored)
    named = zip(("Original (PNG)", "Plain WebP", "vcframe"), files.values(), images, strict=True)
    rows = tuple(_row(title, file, photo, image) for title, file, image in named)
    write_image(out / "restored.png", restored)
    write_image(out / "comparison.png", draw_comparison(rows))
    report = trained.report
    training = f"{report['steps']} steps in {report['minutes']} min on {report['data']}"
    return Demo(rows, trained.model_path, out / "restored.png", out / "comparison.png", training)


def photograph() -> Image:
    """The astronaut Eileen Collins, 512x512 RGB, by NASA; public domain, ships with scikit-image."""
    import skimage.data

    load: Callable[[], Image] = skimage.data.astronaut
    return np.ascontiguousarray(load())


def draw_comparison(rows: tuple[DemoRow, ...]) -> Image:
    """The pictures side by side, a detail of each enlarged below, and the figures as captions."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw, ImageFont

    panels = []
    for row in rows:
        detail = row.image[DETAIL].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        gap = np.full((MARGIN, row.image.shape[1], 3), 255, np.uint8)
        panels.append(np.concatenate([row.image, gap, detail]))
    height, width = panels[0].shape[:2]
    font = ImageFont.load_default(size=20)
    canvas = PillowImage.new(
        "RGB", (len(rows) * (width + MARGIN) + MARGIN, height + 2 * MARGIN + 64), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for index, (row, panel) in enumerate(zip(rows, panels, strict=True)):
        left = MARGIN + index * (width + MARGIN)
        canvas.paste(PillowImage.fromarray(panel), (left, MARGIN))
        draw.multiline_text((left, MARGIN + height + 8), row.caption, fill="black", font=font)
    return np.array(canvas)


def print_demo(demo: Demo, console: Console) -> None:
    """Print the table and where the files are."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "file", title="A photograph that the model has not seen")
    for heading in ("bytes", "bpp", "PSNR", "SSIM"):
        table.add_column(heading, justify="right")
    for row in demo.rows:
        figures = f"{row.num_bytes:,}", f"{row.bpp:.3f}", row.distortion, f"{row.ssim:.4f}"
        table.add_row(row.title, escape(str(row.file)), *figures)
    console.print(table)
    console.print(
        "Plain WebP is at its lowest quality, the smallest file it has; vcframe was held to that size."
    )
    console.print(f"Model: {escape(str(demo.model_path))}, {escape(demo.training)}", soft_wrap=True)
    console.print(
        f"Restored: {escape(str(demo.restored))}   Side by side: {escape(str(demo.comparison))}",
        soft_wrap=True,
    )


def _row(title: str, file: Path, original: Image, image: Image) -> DemoRow:
    num_bytes = file.stat().st_size
    bpp = 8 * num_bytes / (original.shape[0] * original.shape[1])
    return DemoRow(title, file, num_bytes, bpp, psnr(original, image), ssim(original, image), image)

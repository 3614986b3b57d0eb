"""Draw the pictures of the suite `robust` that are no photographs: text, screenshot, noise, flat.

python benchmarks/content_pictures.py --out benchmarks/suites/content

They are committed, because fonts differ between versions of Pillow and the suite states digests.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 384, 256
"""Width and height."""
SENTENCE = (
    "The codec itself is never touched: what is written is a file that any decoder of the format opens. "
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Draw pictures of four kinds of content.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    out = parser.parse_args(arguments).out
    out.mkdir(exist_ok=True)
    for picture in (text, screenshot, noise, flat):
        picture().save(out / f"{picture.__name__}.png", optimize=True)
    return 0


def text() -> Image.Image:
    """A page of print in four sizes."""
    page = Image.new("RGB", SIZE, "white")
    draw, top, words = ImageDraw.Draw(page), 6, SENTENCE * 3
    for size in (9, 11, 14, 20) * 3:
        draw.text((8, top), words, "black", ImageFont.load_default(size))
        top, words = top + size + 7, words[7:]
    return page


def screenshot() -> Image.Image:
    """A window with a bar, buttons, a list and lines of one pixel, in pure colours."""
    screen = Image.new("RGB", SIZE, "#2d5f8a")
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(11)
    draw.rectangle((16, 12, 367, 243), "#f4f4f4", "black")
    draw.rectangle((16, 12, 367, 32), "#1f6feb", "black")
    draw.text((24, 16), "photographs - 24 files", "white", font)
    for index, colour in enumerate(("#e5534b", "#daaa3f", "#57ab5a")):
        draw.ellipse((314 + 17 * index, 16, 326 + 17 * index, 28), colour)
    for row in range(11):
        top = 40 + 18 * row
        draw.line((17, top + 16, 250, top + 16), "#d0d0d0")
        draw.rectangle((24, top + 2, 36, top + 12), ("#57ab5a", "#daaa3f", "#e5534b")[row % 3])
        draw.text((44, top), f"kodim{row + 1:02d}.png   {768}x{512}   {600 + 37 * row} kB", "black", font)
    for index, label in enumerate(("Open", "Compress", "Compare")):
        box = (266, 44 + 34 * index, 354, 68 + 34 * index)
        draw.rounded_rectangle(box, 5, "#ffffff", "#1f6feb")
        draw.text((282, box[1] + 5), label, "#1f6feb", font)
    return screen


def noise() -> Image.Image:
    """Independent samples: what no codec can compress."""
    width, height = SIZE[0] // 2, SIZE[1] // 2
    samples = np.random.default_rng(0).normal(128, 40, (height, width, 3))
    return Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8))


def flat() -> Image.Image:
    """Even areas and one slow gradient."""
    width, height = SIZE
    plane = np.empty((height, width, 3), np.uint8)
    plane[:] = (70, 130, 180)
    plane[:, : width // 3] = (236, 233, 216)
    plane[height // 2 :, width // 3 :] = np.linspace(40, 215, width - width // 3).astype(np.uint8)[:, None]
    return Image.fromarray(plane)


if __name__ == "__main__":
    raise SystemExit(main())

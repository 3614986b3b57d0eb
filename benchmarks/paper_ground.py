"""vcframe on the paper's own ground: luma of small grey pictures through JPEG, beside ComCNN and RecCNN.

python benchmarks/paper_ground.py set7 set5 set14 live1 --out benchmarks/results/paper_ground.json

Every picture is compressed to at most the bytes of the rival's stream (`paper_ground.toml`), or of plain JPEG
with standard Huffman tables where none is known, and restored from the file. The rival's decoder costs 665
kMAC per pixel.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import vcframe
from vcframe.bench.provenance import versions
from vcframe.codec import Image, VcframeError
from vcframe.images import find_images, luma, read_image, write_bytes
from vcframe.metrics import psnr
from vcframe.model import Model, find_model
from vcframe.registry import Registry

PRINTED = Path(__file__).with_suffix(".toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare vcframe with ComCNN and RecCNN at equal bytes.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="one for each set of pictures")
    parser.add_argument("--model", metavar="FILE|ID", help="the JPEG model, if not the shipped one")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    try:
        model = find_model(given.model, Registry.load().codec("jpeg"))
        printed = tomllib.loads(PRINTED.read_text(encoding="utf-8"))
        results = []
        for folder in given.folders:
            images = {path.stem: luma(read_image(path)) for path in find_images([str(folder)])}
            for point in printed["point"]:
                known = point if folder.name == printed["set"] else {"quality": point["quality"]}
                results.append({"set": folder.name, **compared(images, known, model)})
                print(line(results[-1]), flush=True)
        if given.out is not None:
            content = {
                "schema": "vcframe-paper-ground",
                "convention": "luma PSNR (full-range BT.601) of 8-bit pictures, then the mean; whole files",
                "model_id": model.id,
                "versions": versions(),
                "results": results,
            }
            write_bytes(given.out, json.dumps(content, indent=1).encode() + b"\n")
    except VcframeError as error:
        print(f"paper_ground: {error}", file=sys.stderr)
        return 2
    return 0


def compared(images: Mapping[str, Image], point: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Every picture at the bytes of one operating point, and the means beside the printed ones."""
    rows = []
    for name, image in images.items():
        plain, plain_bytes = jpeg(image, point["quality"])
        bpp = point.get("reccnn_bpp", {}).get(name)
        most_bytes = plain_bytes if bpp is None else int(bpp * image.size / 8)
        data = vcframe.compress(image, "jpeg", target_bytes=most_bytes, model=model)
        restored = vcframe.decompress(data, model=model)
        rows.append(
            {
                "image": name,
                "most_bytes": most_bytes,
                "bytes": len(data),
                "psnr_db": psnr(image, restored),
                "jpeg_bytes": plain_bytes,
                "jpeg_psnr_db": psnr(image, plain),
            }
        )
    means = {f"mean_{key}": float(np.mean([row[key] for row in rows])) for key in ("psnr_db", "jpeg_psnr_db")}
    return {**point, **means, "images": rows}


def jpeg(image: Image, quality: int) -> tuple[Image, int]:
    """What plain JPEG with standard tables shows, and its bytes."""
    out = io.BytesIO()
    PIL.Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=False, progressive=False)
    return np.asarray(PIL.Image.open(out)), len(out.getvalue())


def line(result: Mapping[str, Any]) -> str:
    """One operating point on the terminal."""
    ours, plain = result["mean_psnr_db"], result["mean_jpeg_psnr_db"]
    text = f"{result['set']}, {len(result['images'])} pictures, quality {result['quality']}: "
    text += f"JPEG {plain:.2f} dB, vcframe at no more bytes {ours:.2f} dB ({ours - plain:+.2f})"
    if (rival := result.get("reccnn_psnr_db")) is not None:
        text += f", RecCNN {rival:.2f} dB: vcframe {ours - rival:+.2f} dB"
    return text


if __name__ == "__main__":
    sys.exit(main())

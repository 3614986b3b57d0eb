"""The comparison on the paper's ground: its bytes are kept, its figures are those of the source."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import PIL.Image
import pytest
import skimage.data
from benchmark_scripts import load_script

from vcframe.images import luma, write_image

script = load_script("paper_ground")


def test_pictures_are_compared_at_no_more_bytes_than_the_rival_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set7"
    folder.mkdir()
    photo = luma(skimage.data.astronaut()[:128, :192])
    for name in ("lena", "stranger"):
        write_image(folder / f"{name}.png", photo)
    assert script.main([str(folder), "--out", str(tmp_path / "out.json")]) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    low, high = content["results"]
    PIL.Image.fromarray(photo).save(tmp_path / "plain.jpg", quality=10)
    by_name = {row["image"]: row for row in high["images"]}
    assert by_name["stranger"]["most_bytes"] == (tmp_path / "plain.jpg").stat().st_size
    assert by_name["lena"]["most_bytes"] == math.floor(0.248 * 128 * 192 / 8)
    for result in (low, high):
        for row in result["images"]:
            assert row["bytes"] <= row["most_bytes"]
        assert result["mean_psnr_db"] == pytest.approx(sum(r["psnr_db"] for r in result["images"]) / 2)
    difference = high["mean_psnr_db"] - 30.59
    assert f"RecCNN 30.59 dB: vcframe {difference:+.2f} dB" in capsys.readouterr().out


def test_printed_figures_are_those_of_the_source(shared: Path) -> None:
    text = (shared / "facts/field.md").read_text(encoding="utf-8")
    low, high = tomllib.loads(script.PRINTED.read_text(encoding="utf-8"))["point"]
    for point in (low, high):
        assert f"JPEG {point['jpeg_psnr_db']:.2f}/" in text
        assert f"full **{point['reccnn_psnr_db']:.2f}/" in text
    pictures = "butterfly, cameraman, house, lena, peppers, leaves, parrots"
    row = " | ".join(f"{high['reccnn_bpp'][name]:.3f}" for name in pictures.split(", "))
    assert f"| its stream, bpp, standard Huffman tables | {row} |" in text


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("paper_ground: ")

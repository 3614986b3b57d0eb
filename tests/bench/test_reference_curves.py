"""The comparison with published curves: its arithmetic, on a few small pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import skimage.data
from benchmark_scripts import load_script

from vcframe.bench.sets import find_set
from vcframe.codec import Image
from vcframe.images import as_colour, luma, write_image
from vcframe.registry import Registry

script = load_script("reference_curves")


def line(at_01: float, low: float, high: float) -> list[tuple[int, float, float]]:
    """A curve of 3 dB for every doubling of the rate, through `at_01` dB at 0.1 bpp."""
    rates = [low * (high / low) ** (i / 4) for i in range(5)]
    return [(1, bpp, at_01 + 3 * math.log2(bpp / 0.1)) for bpp in rates]


def test_curves_are_read_at_the_rate_and_then_averaged() -> None:
    images = [line(24, 0.05, 0.4), line(27, 0.08, 0.9)]
    rows = script.compared([(0.1, 25.5), (0.2, 28.56), (0.4, 31.46), (0.5, 33.0)], images)
    assert [row["measured_db"] for row in rows] == [
        *(pytest.approx(decibels, abs=1e-9) for decibels in (25.5, 28.5, 31.5)),
        None,
    ]
    assert [row["agrees"] for row in rows] == [True, False, True, False]
    assert [row["num_images"] for row in rows] == [2, 2, 2, 1]


def test_the_published_figures_are_those_of_the_source(shared: Path) -> None:
    lines = (
        (shared / "facts/field.md").read_text(encoding="utf-8").partition("Kodak, 24 images")[2].splitlines()
    )
    table = [[cell.strip() for cell in row.strip("|").split("|")] for row in lines[2:12]]
    rates = [float(cell) for cell in table[0][1:7]]
    source = {"JPEG": "JPEG, standard table, optimised Huffman", "JPEG 2000": "JPEG2000"}
    for curve in script.tomllib.loads(script.REFERENCE.read_text())["curve"]:
        row = next(row for row in table if row[0] == source.get(curve["name"], curve["name"]))
        cells = zip(rates, row[1:7], strict=True)
        assert curve["points"] == [[bpp, float(cell)] for bpp, cell in cells if cell != "n/a"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two small pictures that stands for the published set, with a made-up curve for JPEG."""
    reference = (
        'set = "kodak"\nsource = "made up"\n[[curve]]\nname = "A"\ndescribed = "b"\ncodec = "jpeg"\n'
        'options = { progressive = "never" }\nqualities = [5, 20, 50, 80]\npoints = [[0.7, 30.0]]\n'
    )
    (tmp_path / "reference.toml").write_text(reference)
    monkeypatch.setattr(script, "REFERENCE", tmp_path / "reference.toml")
    photo = skimage.data.astronaut()
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        write_image(path, photo[100 * i : 100 * i + 96, 100:196])

    def files(image_set: object, folder: Path) -> Sequence[Path]:
        assert image_set == find_set("kodak")
        assert folder == tmp_path
        return paths

    monkeypatch.setattr(script, "local_files", files)
    return tmp_path


def test_a_difference_fails_and_is_printed(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = small / "result.json"
    assert script.main([str(small), "--out", str(out)]) == 1
    (row,) = json.loads(out.read_text())["curves"]["A"]["rows"]
    printed = capsys.readouterr().out
    assert (
        f"0.70 bpp: 30.00 dB, ours {row['measured_db']:.2f} dB, {row['measured_db'] - 30:+.3f} dB" in printed
    )
    assert "DIFFERS" in printed
    text = script.REFERENCE.read_text()
    script.REFERENCE.write_text(text.replace("30.0]]", f"{row['measured_db'] + 0.049}]]"))
    assert script.main([str(small), "--out", str(out)]) == 0
    script.REFERENCE.write_text(text.replace("30.0]]", f"{row['measured_db'] + 0.051}]]"))
    assert script.main([str(small), "--out", str(out)]) == 1
    script.REFERENCE.write_text(text.replace("[0.7, 30.0]", "[50.0, 30.0]"))
    assert script.main([str(small), "--out", str(out)]) == 1
    assert "reached by 0 of 2 pictures only" in capsys.readouterr().out


def test_a_stopped_run_continues(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = small / "result.json"
    script.main([str(small), "--out", str(out)])
    whole = out.read_text()
    begun = json.loads(whole)
    del begun["curves"]["A"]["images"]["1.png"]
    out.write_text(json.dumps(begun | {"curves": {"A": begun["curves"]["A"] | {"rows": []}}}))
    measured = []
    real = script.measure
    monkeypatch.setattr(script, "measure", lambda *given: measured.append(given[2]) or real(*given))
    script.main([str(small), "--out", str(out)])
    assert measured == [5, 20, 50, 80]
    assert json.loads(out.read_text()) == json.loads(whole)


def test_luma_is_coded_as_grey_or_as_three_equal_channels(photo: Image) -> None:
    grey = luma(photo)
    for name, coded in (("jpeg", grey), ("webp", as_colour(grey))):
        codec = Registry.load().codec(name)
        point = script.measure(codec, grey, 20)
        assert point.num_bytes == len(codec.encode(coded, 20))
        assert point.bpp == 8 * point.num_bytes / grey.size
        assert 25 < point.psnr_db < 45

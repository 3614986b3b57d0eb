"""The ablations end to end, tiny: every variant is trained, measured, written down and drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import skimage.data
from benchmark_scripts import load_script

from vcframe.images import to_image, to_tensor, write_image
from vcframe.networks import upsample
from vcframe.registry import Registry

SMALL = {"batch": 1, "patch": 32, "crop": 64, "joint_batch": 1, "joint_crop": 64, "pool": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    script = load_script("ablations")
    script.SETTINGS |= SMALL
    return script


def arguments(folder: Path, *more: str) -> list[str]:
    given = {"data": "data", "images": "images", "out": "out", "work": "work", "page": "page.md"}
    return [*(text for name, path in given.items() for text in (f"--{name}", str(folder / path))), *more]


@pytest.fixture(scope="module")
def done(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of ten steps; one of its two pictures is too small for a BD-rate."""
    folder = tmp_path_factory.mktemp("ablations")
    photo = skimage.data.astronaut()
    parts = {"data/a": photo[:96, :96], "data/b": photo[200:296, :96], "images/no": photo[:16, :16]}
    parts["images/yes"] = skimage.data.coffee()[100:260, 100:260]
    for name, part in parts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / f"{name}.png", np.ascontiguousarray(part))
    (folder / "page.md").write_text("# Top\n\n<!-- results -->\nold\n<!-- /results -->\n")
    assert script.main(arguments(folder, "--codec", "jpeg", "--steps", "10")) == 0
    return folder


def test_every_variant_is_trained_for_equal_steps_and_measured(script: ModuleType, done: Path) -> None:
    content = json.loads((done / "out/jpeg.json").read_text())
    variants: dict[str, Any] = content["variants"]
    assert list(variants) == list(script.TITLES)
    steps = {name: {s: t["steps"] for s, t in v["training"].items()} for name, v in variants.items()}
    for name in script.TRAINED:
        scale = "1" if name == "full" else "2"
        first = json.loads((done / f"work/jpeg-10/first-{scale}/report.json").read_text())
        assert first["steps"] == 5
        assert steps[name] == {scale: 5}
        assert variants[name]["training"][scale]["start"] == first["model"]
    assert steps["bicubic"] == {"2": 0}
    assert steps["choice"] == steps["tuned-choice"] == {"1": 5, "2": 5}
    # In so few steps DSSIM makes no difference that half precision would show.
    assert len({v["model_id"] for name, v in variants.items() if name != "paper"}) == len(variants) - 1
    for variant in variants.values():
        no, yes = variant["images"]
        assert no["bd_rate_percent"] is None
        assert no["reason"]
        assert yes["bd_rate_percent"] == pytest.approx(variant["summary"]["mean"])
        assert variant["summary"]["num_missing"] == 1
    assert variants["post"]["against_post"]["mean"] == pytest.approx(0, abs=1e-9)
    # The plain codec's own files are among those to choose from.
    for name in script.CHOICES:
        assert variants[name]["summary"]["mean"] < 1e-6


def test_variants_differ_in_what_they_are_said_to_differ_in(script: ModuleType, done: Path) -> None:
    def settings(name: str) -> dict[str, Any]:
        return dict(json.loads((done / f"work/jpeg-10/{name}/config.json").read_text()))

    def differ(one: str, two: str) -> set[str]:
        a, b = settings(one), settings(two)
        return {key for key in a if a[key] != b[key]} - {"out"}

    assert differ("joint", "joint-no-rate") == {"rate"}
    assert differ("joint", "tuned") == differ("joint", "straight") == {"plan"}
    assert differ("paper", "paper-no-dssim") == {"dssim"}
    assert differ("post", "joint") == {"plan", "schedule"}
    assert differ("post", "full") == {"scale", "start"}
    assert differ("first-2", "post") == {"start", "seed"}


def test_the_page_has_the_table_and_the_figure(script: ModuleType, done: Path) -> None:
    text = (done / "page.md").read_text()
    assert text.startswith("# Top\n\n<!-- results -->\n\n## jpeg\n\n![")
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| plain jpeg",
        *(f"| {t}" for t in script.TITLES.values()),
    ]
    content = json.loads((done / "out/jpeg.json").read_text())
    mean = content["variants"]["joint"]["summary"]["mean"]
    assert f"| joint with rate | {mean:+.1f} % | {mean:+.1f} % |" in text
    drawn = ElementTree.parse(done / "page-jpeg.svg").getroot()
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(script.TITLES)
    assert all(0 < float(circle.attrib["cx"]) < script.WIDTH for circle in circles)


def test_what_is_finished_is_not_done_again(
    script: ModuleType, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(script, "fit", never)
    monkeypatch.setattr(script, "evaluate", never)
    before = (done / "out/jpeg.json").read_text()
    assert script.main(arguments(done, "--codec", "jpeg", "--steps", "10")) == 0
    assert (done / "out/jpeg.json").read_text() == before


def test_check_tells_a_stale_page_or_figure(
    script: ModuleType, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done / "out", tmp_path / "out")
    for name in ("page.md", "page-jpeg.svg"):
        shutil.copy(done / name, tmp_path / name)
    assert script.main(arguments(tmp_path, "--check")) == 0
    for name in ("page.md", "page-jpeg.svg"):
        file = tmp_path / name
        fresh = file.read_text()
        file.write_text(fresh.replace("joint with rate", "joint with fate"))
        assert script.main(arguments(tmp_path, "--check")) == 1
        assert f"{name} is stale" in capsys.readouterr().err
        assert script.main(arguments(tmp_path, "--report")) == 0
        assert file.read_text() == fresh


def test_without_results_the_page_says_so(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- results --><!-- /results -->")
    assert script.main(arguments(tmp_path, "--report")) == 0
    assert "Nothing has been measured yet." in (tmp_path / "page.md").read_text()


def test_bicubic_alone_is_plain_resampling(script: ModuleType, tmp_path: Path) -> None:
    model = script.Study(Registry.load().codec("jpeg"), "data", 10, tmp_path)._bicubic()
    decoded = np.ascontiguousarray(skimage.data.astronaut()[:21, :30])
    restored = model.restore(decoded, 0.3, 2, (41, 60))
    plain = to_image(upsample(to_tensor([decoded]), 2)[0])[:41, :60]
    assert np.array_equal(restored, plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "give --data"),
        (["--data", "d", "--images", "i", "--steps", "4"], "--steps: at least 10"),
        (["--report", "--page", "none.md"], "none.md"),
    ],
)
def test_what_it_refuses_is_one_line(
    script: ModuleType, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    assert script.main(changes) == 2
    error = capsys.readouterr().err
    assert error.startswith("ablations: ")
    assert message in error


def test_the_committed_page_is_up_to_date(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0

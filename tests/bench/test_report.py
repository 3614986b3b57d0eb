"""The page and its tables: self-contained, well-formed, and with the numbers of the analysis."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow.parquet
import pytest
from benchmark_runs import curve, failure, write_run
from command_line import fresh_model, ok, refused

from vcframe import Image
from vcframe.bench.analysis import Analysis, System
from vcframe.bench.rows import Row, Task
from vcframe.bench.runs import read_run
from vcframe.metrics import psnr
from vcframe.registry import Registry
from vcframe.ways import Way

NETWORKS = System("jpeg", "vcframe")
VOID = {"meta", "link", "input", "br"}


class Page(html.parser.HTMLParser):
    """Tags in order, with what they hold; fails on one that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data

    def attributes(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def made_rows() -> list[Row]:
    rows = []
    for image, factor in (("made/a.png", 0.7), ("made/b.png", 0.8), ("made/c.png", 0.9)):
        rows += curve(image, "jpeg", "plain") + curve(image, "jpeg", "vcframe", factor, scale=2)
        rows += curve(image, "webp", "plain", 0.75)
    return [*rows, failure("made/a.png", "webp", "plain", 95, "<script>alert(1)</script>")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Path]:
    folder = tmp_path_factory.mktemp("report")
    run, out = write_run(folder / "run", made_rows()), folder / "page"
    published = folder / "neural.json"
    published.write_text(json.dumps({"name": "made-net", "results": {"bpp": [0.1, 0.2], "psnr": [30, 33]}}))
    ok("bench", "report", run, "--out", out, "--compressai", published)
    return Analysis(read_run(run)), out


@pytest.fixture(scope="module")
def page(report: tuple[Analysis, Path]) -> Page:
    return Page((report[1] / "index.html").read_text())


def content(path: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="content">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found is not None
    parsed: dict[str, Any] = json.loads(found[1])
    return parsed


def test_the_page_needs_nothing_from_anywhere(page: Page, report: tuple[Analysis, Path]) -> None:
    assert page.attributes("src") == []
    files = {path.name for path in report[1].iterdir()}
    for link in page.attributes("href"):
        assert link.startswith(("#", "data:")) or link in files
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    text = (report[1] / "index.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", text)


def test_the_page_can_be_used_without_seeing_it(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags
    assert [tag for tag, _ in page.tags].count("h1") == 1
    labels = [tag for tag, _ in page.tags].count("label")
    assert labels == sum(tag in ("select", "input") for tag, _ in page.tags)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_the_sentence_has_the_mean_of_the_analysis(page: Page, report: tuple[Analysis, Path]) -> None:
    expected = "At equal RGB PSNR up to 0.3 bpp, vcframe needs 20.0 % (jpeg) fewer bytes than the codec alone"
    assert page.text["h1"] == expected + ": means over 3 pictures."


def test_reasons_are_text_and_no_markup(report: tuple[Analysis, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


def test_what_is_drawn_is_what_the_analysis_says(report: tuple[Analysis, Path]) -> None:
    analysis, out = report
    drawn = content(out / "index.html")
    assert [(s["codec"], s["method"]) for s in drawn["systems"]] == [
        ("jpeg", "plain"),
        ("jpeg", "vcframe"),
        ("webp", "plain"),
    ]
    assert len(drawn["comparisons"]) == len(analysis.comparisons) == 2 * 2 * 3
    for shown, own in zip(drawn["comparisons"], analysis.comparisons, strict=True):
        assert shown["rate"]["mean"] == own.rate.mean
        for value, image in zip(shown["rates"], analysis.images, strict=True):
            delta = own.rates[image]
            assert value == (delta.reason if delta.value is None else pytest.approx(delta.value, rel=1e-5))
    line = drawn["curves"]["psnr"][1][0]
    points = analysis.curves("psnr")[NETWORKS]["made/a.png"]
    assert line == [[pytest.approx(p.bpp, rel=1e-5), p.psnr_db, p.quality, 2] for p in points]
    assert drawn["means"]["psnr"][0][0][:2] == [pytest.approx(0.05, rel=1e-4), 26]
    assert drawn["published"][0]["lines"]["psnr"] == [[0.1, 30, None, None], [0.2, 33, None, None]]
    assert drawn["matched"][0]["rows"][0]["num_pairs"] == 3


def test_the_tables_hold_every_row_and_delta(report: tuple[Analysis, Path]) -> None:
    analysis, out = report
    rows = list(csv.DictReader((out / "rows.csv").open()))
    table = pyarrow.parquet.read_table(out / "rows.parquet").to_pylist()
    assert len(rows) == len(table) == len(analysis.run.rows)
    by_key = {(r.task.image, r.task.codec, r.task.method, r.task.quality): r for r in analysis.run.rows}
    for flat in table:
        row = by_key[flat["image"], flat["codec"], flat["method"], flat["quality"]]
        assert (flat["num_bytes"], flat["psnr"], flat["error"]) == (
            row.num_bytes,
            row.metrics.get("psnr"),
            row.error,
        )
    deltas = list(csv.DictReader((out / "deltas.csv").open()))
    assert len(deltas) == sum(len(c.rates) for c in analysis.comparisons)
    assert float(deltas[0]["bd_rate_percent"]) == next(iter(analysis.comparisons[0].rates.values())).value
    summary = json.loads((out / "summary.json").read_text())
    assert summary["comparisons"][0]["bd_rate_percent"]["mean"] == analysis.comparisons[0].rate.mean
    assert summary["run"]["commit"] == "c0ffee"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("name", ["chart.js", "viewer.js", "page.js"])
def test_the_scripts_are_javascript(name: str) -> None:
    import vcframe.bench.report

    path = Path(vcframe.bench.report.__file__).with_name(name)
    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_overwritten_without_being_asked_to(report: tuple[Analysis, Path]) -> None:
    analysis, out = report
    message = refused("bench", "report", analysis.run.folder, "--out", out)
    assert message == f"{out / 'index.html'} exists; give --force to overwrite it"
    assert "name one for the page" in refused(
        "bench", "report", analysis.run.folder, "--out", out / "rows.csv"
    )


def test_a_run_in_which_all_failed_has_no_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [failure("made/a.png", "jpeg", "plain", 10, "no memory")])
    assert "every task failed" in refused("bench", "report", run, "--out", tmp_path / "page")
    assert not (tmp_path / "page").exists()


# The viewer


@pytest.fixture
def coded(tmp_path: Path, photo: Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of real files of one small picture, its original and its model beside it."""
    (tmp_path / "originals").mkdir()
    path = tmp_path / "originals" / "photo.png"
    PIL.Image.fromarray(photo).save(path)
    models = tmp_path / "models"
    models.mkdir()
    model = fresh_model("jpeg")
    model.save(models / "jpeg.safetensors")
    monkeypatch.setenv("VCFRAME_MODELS", str(models))
    codec = Registry.load().codec("jpeg")
    digest, rows = hashlib.sha256(path.read_bytes()).hexdigest(), []
    for method, way in (("plain", Way(photo, codec)), ("vcframe", Way(photo, codec, model, 2))):
        for quality in (2.0, 10.0, 30.0, 60.0):
            file = way.compress(quality)
            task = Task("made/photo.png", digest, "jpeg", codec.config(), method, file.scale, quality)
            distortion = {"psnr": psnr(photo, way.restore(file.data))}
            rows.append(Row(task, 200, 312, file.num_bytes, distortion))
    about = {"models": {"jpeg/vcframe": {"id": model.id}}, "metrics": ["psnr"]}
    return write_run(tmp_path / "run", rows, ("jpeg",), **about)


def test_the_viewer_shows_real_files_at_matched_bytes(coded: Path, photo: Image) -> None:
    out = coded.parent / "page"
    ok("bench", "report", coded, "--out", out, "--images", coded.parent / "originals")
    (view,) = content(out / "index.html")["viewer"]["views"]
    assert (view["width"], view["height"]) == (312, 200)
    original, plain, networks = view["versions"]
    assert [original["name"], plain["name"], networks["name"]] == ["original", "plain jpeg", "vcframe jpeg"]
    sizes = [int(version["caption"].split()[0]) for version in (plain, networks)]
    assert sizes[0] in {r.num_bytes for r in read_run(coded).rows if r.task.method == "plain"}
    assert 0.9 * sizes[0] < sizes[1] <= sizes[0]
    data = base64.b64decode(original["source"].removeprefix("data:image/webp;base64,"))
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (312, 200)


def test_another_picture_than_that_of_the_run_is_refused(coded: Path) -> None:
    path = coded.parent / "originals" / "photo.png"
    PIL.Image.new("RGB", (312, 200)).save(path)
    arguments = "bench", "report", coded, "--out", coded.parent / "page", "--images", path.parent
    assert refused(*arguments) == f"{path} is not the picture of the run: its SHA-256 is another"
    path.rename(path.with_name("other.png"))
    assert "has no photo.png" in refused(*arguments)


def test_a_model_that_is_missing_is_a_note(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VCFRAME_MODELS")
    out = coded.parent / "page"
    ok("bench", "report", coded, "--out", out, "--images", coded.parent / "originals")
    viewer = content(out / "index.html")["viewer"]
    assert viewer["views"] == []
    assert "no model file or id" in viewer["notes"][0]

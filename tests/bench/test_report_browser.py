"""The page in a real Chromium, where Playwright and the browser are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import curve, write_run

from vcframe.bench.analysis import Analysis
from vcframe.bench.report.content import page_content
from vcframe.bench.report.page import render
from vcframe.bench.report.viewer import Shown, View, Viewer
from vcframe.bench.runs import read_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

GREY = "data:image/gif;base64,R0lGODlhAQABAIAAAMLCwgAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of a made run, opened; what it asked for, logged and threw is in `page.seen`."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    rows = []
    for image, factor in (("made/a.png", 0.7), ("made/b.png", 0.9), ("made/c.png", 0.8)):
        rows += curve(image, "jpeg", "plain") + curve(image, "jpeg", "vcframe", factor, scale=2)
        rows += curve(image, "webp", "plain", 0.75)
    folder = tmp_path_factory.mktemp("page")
    analysis = Analysis(read_run(write_run(folder / "run", rows)))
    names = "original", "plain jpeg", "vcframe jpeg"
    view = View("made", 64, 48, tuple(Shown(name, f"caption of {name}", GREY) for name in names))
    path = folder / "index.html"
    path.write_bytes(render(analysis, page_content(analysis, Viewer((view,), ()), ())))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.seen = []
        page.on("console", lambda message: page.seen.append(message.text))
        page.on("pageerror", lambda error: page.seen.append(str(error)))
        page.on("request", lambda request: page.seen.append(request.url))
        page.goto(path.as_uri())
        page.seen[:] = [url for url in page.seen if url != path.as_uri() and not url.startswith("data:")]
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def quiet(page: Any) -> Iterator[None]:
    yield
    assert page.seen == []


def test_the_pointer_reads_a_point_and_dragging_zooms(page: Any) -> None:
    svg = page.locator("#curve-chart .chart > svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    marks = page.locator("#curve-chart svg svg path").all()
    assert len(marks) == 2 * 3
    first = marks[1].bounding_box()
    page.mouse.move(first["x"] + 3.5, first["y"] + first["height"] - 3.5)
    assert page.locator("#curve-chart output").inner_text().startswith("plain jpeg")
    before = page.locator("#curve-chart text").all_inner_texts()
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 200)
    page.mouse.up()
    assert page.locator("#curve-chart text").all_inner_texts() != before
    page.locator("#curve-chart button", has_text="All").click()
    assert page.locator("#curve-chart text").all_inner_texts() == before


def test_the_keyboard_goes_from_point_to_point(page: Any) -> None:
    page.locator("#curve-chart .chart > svg").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#curve-chart output").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#curve-chart output").inner_text()
    page.keyboard.press("ArrowDown")
    third = page.locator("#curve-chart output").inner_text()
    assert "quality 10" in first
    assert "quality 20" in second
    assert third.startswith("vcframe jpeg")


def test_codecs_are_toggled_and_the_axis_is_changed(page: Any) -> None:
    lines = page.locator("#curve-chart svg svg path")
    button = page.locator("#toggle-codecs button", has_text="webp")
    button.click()
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("false", 4)
    button.click()
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("true", 6)
    before = lines.first.get_attribute("d")
    page.locator("#curve-log").uncheck()
    assert lines.first.get_attribute("d") != before


def test_a_heading_sorts(page: Any) -> None:
    page.locator("#picture-system").select_option("1")
    heading = page.locator("#picture-table th", has_text="BD-rate")
    rows = page.locator("#picture-table tbody th")
    heading.locator("button").click()
    assert rows.all_inner_texts() == ["made/a.png", "made/c.png", "made/b.png"]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert rows.all_inner_texts() == ["made/b.png", "made/c.png", "made/a.png"]


def test_the_matrix_has_the_mean(page: Any) -> None:
    cells = page.locator("#matrix-table tbody tr").first.locator("td")
    assert cells.nth(0).inner_text() == "the anchor"
    assert cells.nth(1).inner_text().startswith("-20.0 %")
    alone = page.locator("#matrix-alone")
    assert alone.inner_text() == "Measured without networks only: webp."
    assert page.locator("#matrix-table tbody tr").count() == 1
    page.locator("#delta-anchor").select_option("common")
    assert (
        page.locator("#matrix-table tbody tr").nth(1).locator("td").first.inner_text().startswith("-25.0 %")
    )
    assert alone.inner_text() == ""


def test_costs_are_shown_where_they_were_taken(page: Any) -> None:
    heads = " ".join(page.locator("#speed-table th").all_inner_texts())
    assert "Codec encodes, s" in heads
    assert "Memory, MB" in heads
    assert page.locator("#speed-note").inner_text().startswith("Medians in seconds")


def test_the_viewer_slides_and_flips(page: Any) -> None:
    layer = page.locator("#stage .layer").nth(1)
    clip = "node => node.style.clipPath"
    page.locator("#view-edge").fill("30")
    assert "30%" in layer.evaluate(clip)
    page.locator("#view-flip").click()
    assert layer.evaluate(clip) in ("inset(0px)", "inset(0px 0px 0px 0%)")
    assert "caption of vcframe jpeg" in page.locator("#view-captions").inner_text()
    page.locator("#view-flip").click()
    assert "100%" in layer.evaluate(clip)
    page.locator("#view-zoom").fill("4")
    styles = {image.evaluate("node => node.style.transform") for image in page.locator("#stage img").all()}
    assert len(styles) == 1
    assert "scale(4)" in styles.pop()


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1100, "height": 900})


def test_axe_finds_nothing(page: Any) -> None:
    script = os.environ.get("AXE_SCRIPT")
    if script is None:
        pytest.skip("AXE_SCRIPT does not name the file axe.min.js")
    page.evaluate(Path(script).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []

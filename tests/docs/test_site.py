"""The documentation site: it builds without a warning, needs nothing from elsewhere, and is not stale."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import ROOT, page

import vcframe
from vcframe import hookspecs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
    page("index.md")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


class Resources(HTMLParser):
    """What a browser loads with a page: not what its links lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.found.append(given["href"] or "")
        elif "src" in given:
            self.found.append(given["src"] or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "tutorial.html", "format.html"} <= {path.name for path in pages}
    for path in pages:
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        assert any(name.endswith(".css") for name in resources.found)
        assert [name for name in resources.found if "//" in name] == [], path.name


def test_the_reference_holds_every_public_name_and_hook(site: Path) -> None:
    text = (site / "reference.html").read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("vcframe_")]
    names = [f"vcframe.{name}" for name in vcframe.__all__ if name not in ("hookimpl", "pillow")]
    for name in (*names, *(f"vcframe.hookspecs.{hook}" for hook in hooks), "vcframe.Codec.probe"):
        assert f'id="{name}"' in text, name


def test_the_command_line_reference_is_what_the_parser_says(tmp_path: Path) -> None:
    """`make docs` writes it."""
    written = page("command-line.md")
    fresh = tmp_path / "command-line.md"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = (line for line in makefile.splitlines() if "utils docs" in line)
    arguments = line.strip().removeprefix("$(BIN)/python ").replace("docs/command-line.md", str(fresh))
    subprocess.run([sys.executable, *arguments.replace('"', "").split()], cwd=ROOT, check=True)
    assert fresh.read_text(encoding="utf-8") == written, "stale: run make docs"

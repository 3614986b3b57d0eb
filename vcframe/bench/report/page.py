"""The page as one HTML file: template, style sheet, scripts and content put together."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from vcframe.bench.analysis import CONVENTION, Analysis
from vcframe.bench.extra import library
from vcframe.bench.report.content import headline

SCRIPTS = ("chart.js", "viewer.js", "page.js")


def render(analysis: Analysis, content: dict[str, Any]) -> bytes:
    """The page, UTF-8; nothing in it is fetched from anywhere."""
    jinja2 = library("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    run = analysis.run
    text: str = environment.get_template("page.html").render(
        run=run,
        about=run.about,
        analysis=analysis,
        headline=headline(analysis),
        convention=CONVENTION,
        definition=json.dumps(run.about.get("suite", {}).get("definition", {}), indent=1),
        content=content,
        style=_part("style.css"),
        scripts=[_part(name) for name in SCRIPTS],
    )
    return text.encode()


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

"""The pages of `docs/`, which are part of a checkout only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """The text of a page; skips where only the package is installed."""
    path = ROOT / "docs" / name
    if not path.exists():
        pytest.skip("docs/ is part of a checkout only")
    return path.read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[tuple[str, str]]:
    """`(title, text)` of each code block of a language on a page, in order."""
    return re.findall(rf'^```{language}(?: title="(.*?)")?\n(.*?)^```', page(name), re.M | re.S)

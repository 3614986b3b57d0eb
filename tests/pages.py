"""The pages of `docs/`, which are part of a checkout only."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """The text of a page; skips where only the package is installed."""
    path = ROOT / "docs" / name
    if not path.exists():
        pytest.skip("docs/ is part of a checkout only")
    return path.read_text(encoding="utf-8")

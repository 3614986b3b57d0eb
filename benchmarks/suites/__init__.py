"""The first-party benchmark suites, one TOML file each; they enter as anyone else's do."""

from collections.abc import Iterable
from pathlib import Path

from vcframe import hookimpl


@hookimpl
def vcframe_suites() -> Iterable[Path]:
    """The files of this folder."""
    return sorted(Path(__file__).parent.glob("*.toml"))

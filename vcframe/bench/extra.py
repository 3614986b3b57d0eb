"""Libraries that only the benchmarks need, from optional extras."""

from __future__ import annotations

import importlib
from typing import Any

from vcframe.codec import UsageError


def library(name: str, extra: str = "bench") -> Any:
    """Import one; `UsageError` saying what to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name} is not installed; it comes with: pip install 'vcframe[{extra}]'") from error

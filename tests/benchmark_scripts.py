"""Load the scripts of `benchmarks/`, which are in no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load_script(name: str) -> ModuleType:
    """The script as a module; skips where only the package is installed."""
    path = FOLDER / f"{name}.py"
    if not path.exists():
        pytest.skip("benchmarks/ is part of a checkout only")
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # as when it is run: one may import another
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module

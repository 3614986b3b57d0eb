"""Freed memory is kept for the next layer, in the processes of the command line only."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from vcframe.memory import keep_freed_memory

PROGRAM = """
import resource, sys
import numpy as np
import vcframe.cli
vcframe.cli.app = lambda: None
if sys.argv[1] == "kept":
    vcframe.cli.main()

def touch():
    np.ones(2_000_000)  # 16 MB, freed at once

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str, **environment: str) -> int:
    """Of touching 16 MB twenty times in a new process."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**variables, **environment}
    )
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library cannot be told so")
def test_the_command_line_keeps_freed_memory() -> None:
    assert page_faults("kept") < page_faults("plain") / 2


def test_what_the_environment_says_of_malloc_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()

"""What it takes to make a measurement again: command, versions, machine, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from vcframe import __version__


def command_line() -> str:
    """The command that runs now, as typed in a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of vcframe, Python and the libraries that numbers depend on."""
    versions = {"vcframe": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in ("numpy", "scipy", "scikit-image", "pillow"):
        versions[name] = installed_version(name)
    for name in ("torch", "ray"):
        if name in sys.modules:
            versions[name] = str(sys.modules[name].__version__)
    return versions


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(num_workers: int, num_threads: int) -> dict[str, Any]:
    """Processor and system, and how much of it a run takes: worker processes, threads of each."""
    return {
        "cpu": _cpu(),
        "num_cores": num_cores(),
        "system": platform.platform(),
        "num_workers": num_workers,
        "num_threads": num_threads,
    }


def commit() -> str | None:
    """The commit of the checkout that vcframe runs from, `-dirty` where files differ; None outside of one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _cpu() -> str:
    """The processor's name, which Linux alone tells in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

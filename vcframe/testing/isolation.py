"""Run a codec in a process of its own, with a limit on time and memory.

Decoders of damaged streams hang, crash and allocate; whatever they do, the caller's process lives on.
"""

from __future__ import annotations

import base64
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcframe.codec import Codec, PluginError
from vcframe.testing.failure import CheckFailed

TIME_LIMIT_S = 10.0
"""For one stream; a good decoder needs milliseconds for the pictures of the kit."""
MEMORY_LIMIT_BYTES = 512 * 2**20
"""Beyond what the codec holds after decoding a good stream, where the system can limit it."""
MAX_PIXELS = 1_000_000

REFUSED = "raised CodecError"
DECODED = "decoded to a picture"


@dataclass(frozen=True)
class Stream:
    """Bytes to decode, the kind of damage done to them and what messages call them."""

    kind: str
    label: str
    data: bytes


@dataclass(frozen=True)
class Report:
    """What a codec did in a process of its own."""

    libraries: Sequence[str]
    """What importing its module loaded and should not have."""
    import_s: float
    """Processor time of that import."""
    outcomes: Mapping[Stream, str]
    """`REFUSED`, `DECODED`, or the fault; a kind ends with the first stream that ends the process."""


def run_apart(codec: Codec, good: bytes, streams: Sequence[Stream]) -> Report:
    """Import a codec's module and decode streams; `good` is decoded before the limit on memory applies.

    Raises `CheckFailed` where not even that works.
    """
    outcomes: dict[Stream, str] = {}
    while True:
        replies, end = _in_child(codec, [good, *(stream.data for stream in streams)])
        if len(replies) < 2 or replies[1] != DECODED:
            raise CheckFailed(f"in a process of its own the codec {end or replies[1]}")
        outcomes |= dict(zip(streams, replies[2:], strict=False))
        if end is None:
            libraries, import_s = replies[0]
            return Report(libraries, import_s, outcomes)
        fatal = streams[len(replies) - 2]
        outcomes[fatal] = end
        streams = [s for s in streams[len(replies) - 1 :] if s.kind != fatal.kind]


def _in_child(codec: Codec, streams: list[bytes]) -> tuple[list[Any], str | None]:
    """The replies of `vcframe.testing.child` in order, and how it ended if not well."""
    kind = type(codec)
    file = inspect.getsourcefile(kind)
    if file is None or "<locals>" in kind.__qualname__:
        raise PluginError(f"codec {codec.name}: {kind.__qualname__} must be a class at the top of a module")
    request = {
        "module": kind.__module__,
        "file": file,
        "class": kind.__qualname__,
        "options": codec.config()["options"],
        "max_pixels": MAX_PIXELS,
        "streams": [base64.b64encode(stream).decode() for stream in streams],
        "time_limit_s": TIME_LIMIT_S,
        "memory_limit_bytes": MEMORY_LIMIT_BYTES,
    }
    child = subprocess.run(
        [sys.executable, "-m", "vcframe.testing.child"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    replies = [json.loads(line) for line in child.stdout.splitlines()]
    return replies, _end(child)


def _end(child: subprocess.CompletedProcess[str]) -> str | None:
    if child.returncode == 0:
        return None
    if "Timeout (" in child.stderr:
        return f"did not return within {TIME_LIMIT_S:g} s"
    if child.returncode < 0:
        return f"crashed with signal {signal.Signals(-child.returncode).name}"
    lines = child.stderr.splitlines() or [""]
    return f"ended the process with status {child.returncode}: {lines[-1]}"

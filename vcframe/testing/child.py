"""The child process of `vcframe.testing.isolation`: imports one codec and decodes streams.

Reads a JSON object from standard input. Prints JSON lines: `[loaded libraries, seconds]` for the import, then
one text for each stream.
"""

from __future__ import annotations

import base64
import faulthandler
import importlib
import importlib.util
import json
import operator
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vcframe.codec import Codec, CodecError
from vcframe.registry import import_file
from vcframe.testing.isolation import DECODED, REFUSED


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    # Whatever libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(content: Any) -> None:
        print(json.dumps(content), file=replies, flush=True)

    before, started = set(sys.modules), time.process_time()
    module = _load(request["module"], Path(request["file"]))
    cpu_s = time.process_time() - started
    reply([_libraries(set(sys.modules) - before, module.__name__), cpu_s])
    kind = operator.attrgetter(request["class"])(module)
    codec: Codec = kind(max_pixels=request["max_pixels"], **request["options"])
    for number, stream in enumerate(request["streams"]):
        if number == 1:
            _limit_memory(request["memory_limit_bytes"])
        # A thread of C code ends the process: a hanging decoder may never return to the interpreter.
        faulthandler.dump_traceback_later(request["time_limit_s"], exit=True)
        reply(_outcome(codec, base64.b64decode(stream)))
        faulthandler.cancel_dump_traceback_later()


def _load(name: str, file: Path) -> ModuleType:
    """Import by name, or by path what no other process could find by its name."""
    if name != "__main__" and importlib.util.find_spec(name) is not None:
        return importlib.import_module(name)
    return import_file(file)


def _libraries(modules: set[str], own: str) -> list[str]:
    """Of freshly imported modules those that a plugin should not load."""
    allowed = {*sys.stdlib_module_names, "numpy", "vcframe", own.split(".")[0]}
    foreign = {name.split(".")[0] for name in modules} - allowed
    return sorted(foreign | {name for name in modules if name.startswith("vcframe.")})


def _limit_memory(num_bytes: int) -> None:
    """Limit the address space to what is taken now and `num_bytes` more, on Linux."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + num_bytes, resource.RLIM_INFINITY))


def _outcome(codec: Codec, data: bytes) -> str:
    """What the codec makes of one stream."""
    results: dict[str, Any] = {}
    calls: dict[str, Callable[[], object]] = {
        "extract": lambda: codec.extract(data),
        "embed": lambda: codec.embed(data, b"x"),
        "probe": lambda: codec.probe(data),
        "decode": lambda: codec.decode(data),
    }
    for name, call in calls.items():
        try:
            results[name] = call()
        except CodecError as error:
            if _out_of_memory(error):
                return f"{name} ran out of memory"
        except Exception as error:
            if not (name == "embed" and isinstance(error, NotImplementedError)):
                return f"{name} raised {type(error).__name__}: {error}"
    if "decode" not in results:
        return REFUSED
    picture, probed = results["decode"], results.get("probe")
    if picture.dtype != np.uint8 or (*picture.shape, 1)[:3] != probed:
        return f"decode returned {picture.dtype} {picture.shape} where probe says {probed}"
    return DECODED


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether a codec made its error of a failed allocation."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


if __name__ == "__main__":
    main()

"""What a benchmark run writes: one JSON line for each finished task, with everything to judge it by.

Times are in seconds of a monotonic clock, rates in bits of the whole file per pixel of the original picture.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1
"""Of a line. It changes with the meaning of a field; a reader refuses lines of another version."""


@dataclass(frozen=True)
class Task:
    """One picture through one codec by one method at one quality: the unit of work of a suite."""

    image: str
    """Name of the picture in its set, `set/file`."""
    image_sha256: str
    codec: str
    """Label of the codec in the suite: its name, or one of the suite's own where options differ."""
    config: dict[str, Any]
    """`Codec.config()`."""
    method: str
    """`plain`, `post`, `paper`, `vcframe`, or one that a plugin brings."""
    scale: int | None
    """Original sides over coded sides; None for a method without networks."""
    quality: float
    """The codec's own number."""
    repeat: int = 0
    """Measurements of times are repeated; 0 for the first."""

    @property
    def key(self) -> str:
        """The task as text: tasks are the same where their keys are."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Row:
    """One finished task; a task that failed has the reason in `error` and nothing measured."""

    task: Task
    height: int = 0
    width: int = 0
    num_bytes: int | None = None
    """Length of the whole file, payload included."""
    metrics: dict[str, float] = field(default_factory=dict)
    """By name of the metric, of the restored picture against the original."""
    encode_s: float | None = None
    """In the codec alone."""
    decode_s: float | None = None
    describe_s: float | None = None
    """In the description network, and in fitting the coefficients of the adaptation."""
    restore_s: float | None = None
    """In the post-processing network."""
    peak_bytes: int | None = None
    """Largest resident memory of the worker process so far."""
    error: str | None = None

    @property
    def bpp(self) -> float | None:
        """Bits of the whole file per pixel of the original picture."""
        return None if self.num_bytes is None else 8 * self.num_bytes / (self.height * self.width)

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps({"schema": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Read a line back; `ValueError` where it is none of this version."""
        try:
            fields = json.loads(line)
            if fields.pop("schema") != SCHEMA_VERSION:
                raise ValueError("another schema version")
            return cls(Task(**fields.pop("task")), **fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a row of a benchmark run of schema {SCHEMA_VERSION}: {error}") from error

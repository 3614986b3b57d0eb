"""A benchmark suite: what is measured, as data. One TOML file each, whose name is the suite's.

    title = "JPEG and WebP on the Kodak pictures"
    images = [{ set = "kodak" }]
    methods = ["plain", "vcframe"]
    metrics = ["psnr", "ssim"]

    [codecs.jpeg]
    qualities = [5, 10, 20, 40]

    [codecs.webp-fast]
    codec = "webp"
    options = { method = 0 }
    qualities = 8

Suites come from plugins, through the hook `vcframe_suites`, or from a file that the user names.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vcframe.codec import UsageError
from vcframe.registry import Registry, near, warn_once

Count = Annotated[int, Field(ge=2)]
"""How many qualities, evenly over the unit quality, both ends among them."""
Natives = Annotated[tuple[float, ...], Field(min_length=1)]
"""Numbers of the codec's own scale."""
Units = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
"""Unit qualities, 0 worst and 1 best: what different codecs have in common."""


class SuiteImages(BaseModel):
    """A known image set (`vcframe data list`), a part of one, or a set of the suite's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: str
    files: tuple[str, ...] | dict[str, str] | None = None
    """Names of a known set's files, None for all; or by name the SHA-256 digests of a set of its own."""
    folder: str | None = None
    """Of a set of its own, beside the suite's file; None where the user names it."""
    title: str = ""
    """Of a set of its own, as are source and licence."""
    source: str = ""
    licence: str = ""


class SuiteCodec(BaseModel):
    """A codec with options under a label of the suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: str | None = None
    """Name of the codec; None where that is the label."""
    options: dict[str, Any] = {}
    """Where they differ from the codec's defaults, or for a method with a model from those of the model."""
    qualities: Count | Natives | None = None
    """None for those of the suite."""
    half_qualities: Count | Natives | None = None
    """Of files coded at half size or less, which take fewer bytes at the same quality; None for the same."""


class Suite(BaseModel):
    """What is measured on what, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    images: tuple[SuiteImages, ...] = Field(min_length=1)
    codecs: dict[str, SuiteCodec] | None = None
    """By label; None for every installed codec with its defaults."""
    qualities: Count | Units = 12
    """Of every codec that does not state its own."""
    methods: tuple[str, ...] = Field(default=("plain", "vcframe"), min_length=1)
    metrics: tuple[str, ...] = Field(default=("psnr", "ssim"), min_length=1)
    channels: Literal[1, 3] = 3
    """1 codes and compares the luma of the pictures (full-range BT.601)."""
    repeats: int = Field(default=1, ge=1)
    timing: bool = True
    """Whether rows carry seconds."""
    max_workers: int | None = Field(default=None, ge=1)
    """Tasks at a time at most; 1 where times must not be disturbed."""
    task_limit_s: float = Field(default=600.0, gt=0)
    """A task that takes longer has failed."""
    keep: bool = False
    """Whether the coded files stay in the run's folder."""
    origin: Path = Field(default=Path(), exclude=True)
    """Folder of the suite's file; no part of what the suite says."""

    @property
    def digest(self) -> str:
        """SHA-256 of the definition as canonical JSON."""
        definition = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(definition.encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Suite:
        """Read a suite file; raises `UsageError` with one line that names the file and the fault."""
        try:
            return cls(name=path.stem, origin=path.parent, **tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"suite {path}: cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            # Of what may be a count or a list, the fault inside the list says most; pydantic names the kinds.
            fault = max(error.errors(), key=lambda fault: len(fault["loc"]))
            parts = [str(part) for part in fault["loc"]]
            where = ".".join(part for part in parts if not part.startswith(("constrained-", "tuple[")))
            raise UsageError(f"suite {path}: {where}: {fault['msg']}") from error
        except (TypeError, ValueError) as error:  # TypeError: the file gives itself a name
            raise UsageError(f"suite {path}: not a suite file: {error}") from error


def list_suites(registry: Registry) -> list[Suite]:
    """The suites of every plugin, by name; a file that is no suite is warned about and skipped."""
    suites = []
    for path in registry.suites():
        try:
            suites.append(Suite.load(Path(path)))
        except (TypeError, UsageError) as error:
            warn_once(f"skipped {error}")
    return sorted(suites, key=lambda suite: suite.name)


def find_suite(reference: str, registry: Registry) -> Suite:
    """A suite by the path of its file or by name; raises `UsageError` naming close matches."""
    if Path(reference).suffix == ".toml":
        return Suite.load(Path(reference))
    suites = list_suites(registry)
    found = [suite for suite in suites if suite.name == reference]
    if len(found) > 1:
        raise UsageError(f"{len(found)} plugins have a suite {reference!r}: name the file of the one to run")
    if found:
        return found[0]
    names = {suite.name: suite.name for suite in suites}
    raise UsageError(
        f"unknown suite {reference!r}{near(reference, names)}; "
        f"installed: {', '.join(names) or 'none'}; or name a .toml file"
    )

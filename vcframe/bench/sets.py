"""Known image sets; a stand-in with the embedded photographs alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vcframe.codec import UsageError

EMBEDDED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@dataclass(frozen=True)
class SetFile:
    """One picture of a set."""

    name: str
    num_bytes: int
    sha256: str
    samples_sha256: str


@dataclass(frozen=True)
class ImageSet:
    """Pictures that are measured together."""

    name: str
    title: str
    source: str
    licence: str
    url: str | None
    files: tuple[SetFile, ...]


def find_set(name: str) -> ImageSet:
    """A known set; raises `UsageError`."""
    if name != "embedded":
        raise UsageError(f"unknown image set {name!r}; known: embedded")
    files = []
    for file in EMBEDDED:
        data = (_embedded() / file).read_bytes()
        files.append(SetFile(file, len(data), hashlib.sha256(data).hexdigest(), ""))
    return ImageSet("embedded", "Photographs", "scikit-image", "its own", None, tuple(files))


def local_files(image_set: ImageSet, folder: Path | None) -> list[Path]:
    """The set's files, checked against their digests; raises `UsageError`."""
    if image_set.name == "embedded":
        folder = _embedded()
    if folder is None:
        raise UsageError(f"where are the pictures of {image_set.name}? give --images DIR")
    for file in image_set.files:
        path = folder / file.name
        if not path.is_file():
            raise UsageError(f"{path} of the set {image_set.name} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise UsageError(f"{path} differs from the set {image_set.name}")
    return [folder / file.name for file in image_set.files]


def _embedded() -> Path:
    return Path(str(resources.files("skimage.data")))

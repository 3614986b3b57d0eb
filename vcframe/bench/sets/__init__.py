"""Image sets that results are published on: what belongs to one, where it is from, whether a folder holds it.

Each set is a TOML file in this folder. The pictures themselves are not part of vcframe.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from vcframe.codec import ImageError, UsageError
from vcframe.images import read_image, write_bytes
from vcframe.registry import near

DATA_VARIABLE = "VCFRAME_DATA"
"""Environment variable: the folder that sets are fetched into, each in a folder of its own name."""

DIGESTS = "digests.json"
"""Beside the pictures of an archive: which archive, and every picture's digests."""

_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class SetFile:
    """One picture of a set. Digests are in hexadecimal."""

    name: str
    num_bytes: int
    sha256: str
    """Of the file as its source has it."""
    samples_sha256: str
    """Of the picture itself, as `samples_sha256` computes it."""


@dataclass(frozen=True)
class Archive:
    """The ZIP file that a set is published as: its PNG files are the pictures, whatever their folder."""

    name: str
    num_bytes: int
    sha256: str
    num_images: int
    """As its source says."""


@dataclass(frozen=True)
class ImageSet:
    """A known set of pictures."""

    name: str
    title: str
    source: str
    """Where the set comes from, for people."""
    licence: str
    """As its source states it."""
    url: str | None
    """Folder that the files are fetched from; None where no public one is known."""
    files: tuple[SetFile, ...]
    """None yet where the set is an archive that was not fetched."""
    package: str | None = None
    """Installed Python package that the files are part of: nothing has to be fetched."""
    archive: Archive | None = None

    @property
    def num_images(self) -> int:
        """How many pictures belong to the set."""
        return self.archive.num_images if self.archive and not self.files else len(self.files)

    @property
    def num_bytes(self) -> int:
        """What is fetched."""
        files = self.files if self.archive is None else (self.archive,)
        return sum(file.num_bytes for file in files)


@dataclass(frozen=True)
class FileCheck:
    """One picture of a set, looked for in a folder."""

    file: SetFile
    path: Path | None
    """The file that stands for it; None where there is none."""
    state: Literal["ok", "missing", "differs"]


def list_sets() -> list[ImageSet]:
    """Every known set, by name."""
    folder = resources.files("vcframe.bench.sets")
    return [
        _parse(entry.name.removesuffix(".toml"), entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    ]


def find_set(name: str) -> ImageSet:
    """The set of this name; `UsageError` with close matches and the known ones."""
    known = {image_set.name: image_set for image_set in list_sets()}
    if name not in known:
        names = {known_name: known_name for known_name in known}
        raise UsageError(f"unknown image set {name!r}{near(name, names)}; known: {', '.join(known)}")
    return known[name]


def set_folder(image_set: ImageSet) -> Path:
    """Where `fetch` puts a set: below `$VCFRAME_DATA`, or else below `~/.cache/vcframe`; or its package."""
    if image_set.package is not None:
        return Path(str(resources.files(image_set.package)))
    base = os.environ.get(DATA_VARIABLE)
    return (Path(base) if base else Path.home() / ".cache" / "vcframe") / image_set.name


def check(image_set: ImageSet, folder: Path) -> list[FileCheck]:
    """Look for every picture in a folder.

    A picture may be in another lossless format (`bikes.bmp` for `bikes.png`) or compressed anew: it is itself
    where either the file or its samples have the digest.
    """
    return [_check_file(file, folder) for file in image_set.files]


def local_files(image_set: ImageSet, folder: Path | None = None) -> list[Path]:
    """The set's pictures in a folder, in the set's order, checked; without a folder, where `fetch` puts them.

    Raises `UsageError` naming what is missing or differs, and how to get it.
    """
    if not image_set.files:
        raise UsageError(
            f"image set {image_set.name}: its pictures' digests are those of an archive, known once it was "
            f"fetched; {how_to_get(image_set)}"
        )
    if folder is None or image_set.package is not None:
        folder = set_folder(image_set)
    checks = check(image_set, folder)
    faults = {
        "not there: ": [check.file.name for check in checks if check.state == "missing"],
        "another picture: ": [check.file.name for check in checks if check.state == "differs"],
    }
    if any(faults.values()):
        wrong = "; ".join(text + _enumerated(names) for text, names in faults.items() if names)
        raise UsageError(f"image set {image_set.name} in {folder}: {wrong}; {how_to_get(image_set)}")
    return [check.path for check in checks if check.path is not None]


def how_to_get(image_set: ImageSet) -> str:
    """What a user does to have the set."""
    if image_set.url is not None:
        return f"get it with: vcframe data fetch {image_set.name}"
    return f"it has no public address; name a folder that holds it with --images ({image_set.title})"


def fetch(
    image_set: ImageSet, mirror: str | None = None, on_progress: Callable[[int, int, str], None] | None = None
) -> Path:
    """Download a set into `set_folder`, which is returned, and check every file's digest.

    Files that are there already are not fetched again, so the same call continues one that was stopped. A
    mirror is the address of a folder laid out like ours: `MIRROR/SET/FILE`. `on_progress` is called with
    (files done, files in all, file name) before each file. An archive is unpacked and removed.

    Raises `UsageError` where there is no address or pooch is not installed, `ImageError` where a file cannot
    be fetched or is not the one that was meant.
    """
    if image_set.package is not None:
        return set_folder(image_set)
    base = image_set.url if mirror is None else f"{mirror.rstrip('/')}/{image_set.name}/"
    if base is None:
        raise UsageError(f"image set {image_set.name}: {how_to_get(image_set)}, or fetch it from a --mirror")
    try:
        import pooch
    except ImportError as error:
        raise UsageError("fetching needs pooch; install it with: pip install 'vcframe[bench]'") from error
    pooch.get_logger().setLevel("WARNING")
    folder = set_folder(image_set)
    files: Sequence[SetFile | Archive] = image_set.files
    if image_set.archive is not None:
        if files and all(found.state == "ok" for found in check(image_set, folder)):
            return folder
        files = [image_set.archive]
    for done, file in enumerate(files):
        if on_progress:
            on_progress(done, len(files), file.name)
        try:
            pooch.retrieve(base + file.name, f"sha256:{file.sha256}", fname=file.name, path=folder)
        except (OSError, ValueError) as error:  # the errors of requests are OSErrors
            reason = " ".join(str(error).split())
            raise ImageError(f"{base}{file.name} cannot be fetched: {reason}") from error
    if image_set.archive is not None:
        _unpack(image_set.archive, folder)
    return folder


def _unpack(archive: Archive, folder: Path) -> None:
    """Put an archive's pictures and their digests into its folder, then remove it."""
    packed = folder / archive.name
    files = []
    with zipfile.ZipFile(packed) as content:
        # macOS adds a folder of files that only look like pictures.
        names = [n for n in content.namelist() if n.endswith(".png") and not n.startswith("__MACOSX/")]
        if len({Path(name).name for name in names}) < max(len(names), 1):
            raise ImageError(f"{packed}: of its {len(names)} PNG files two have one name, or there is none")
        for name in names:
            path, data = folder / Path(name).name, content.read(name)
            write_bytes(path, data)
            digest = hashlib.sha256(data).hexdigest()
            files.append(SetFile(path.name, len(data), digest, samples_sha256(path)))
    files.sort(key=lambda file: file.name)
    digests = {"archive": archive.sha256, "files": [dataclasses.asdict(file) for file in files]}
    write_bytes(folder / DIGESTS, json.dumps(digests, indent=1).encode())
    packed.unlink()


def _unpacked(image_set: ImageSet) -> ImageSet:
    """With the pictures of its archive, if that was fetched; damaged digests are as good as none."""
    path = set_folder(image_set) / DIGESTS
    if image_set.archive is None or not path.exists():
        return image_set
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(SetFile(**file) for file in digests["files"])
        same = digests["archive"] == image_set.archive.sha256
    except (OSError, ValueError, TypeError, KeyError):
        return image_set
    return dataclasses.replace(image_set, files=files) if same else image_set


def samples_sha256(path: Path) -> str:
    """SHA-256 of a picture in whatever file: of its shape as text, then its 8-bit samples in raster order."""
    image = read_image(path)
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _parse(name: str, text: str) -> ImageSet:
    content = tomllib.loads(text)
    files = tuple(SetFile(**file) for file in content.pop("files", ()))
    archive = Archive(**content.pop("archive")) if "archive" in content else None
    url = content.pop("url", None)
    return _unpacked(ImageSet(name=name, url=url, files=files, archive=archive, **content))


def _check_file(file: SetFile, folder: Path) -> FileCheck:
    found = [folder / file.name, *sorted(folder.glob(f"{Path(file.name).stem}.*"))]
    path = next((candidate for candidate in found if candidate.is_file()), None)
    if path is None:
        return FileCheck(file, None, "missing")
    return FileCheck(file, path, "ok" if _is_the_picture(file, path) else "differs")


def _is_the_picture(file: SetFile, path: Path) -> bool:
    if hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256:
        return True
    try:
        return samples_sha256(path) == file.samples_sha256
    except ImageError:
        return False


def _enumerated(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")

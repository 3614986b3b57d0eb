"""Pictures for the page: original, plain and vcframe at matched bytes, coded again for the purpose.

For each codec the pictures are those with the best, the median and the worst BD-rate: nobody chose them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vcframe.bench.analysis import CHOOSING, Analysis, System
from vcframe.bench.rows import Task
from vcframe.codec import Image, UsageError, VcframeError
from vcframe.images import find_images, luma, read_image
from vcframe.search import DEFAULT_EFFORT, MostBytes, search
from vcframe.ways import Compressed, Way

if TYPE_CHECKING:
    from vcframe.registry import Registry

VIEW_BPP = 0.15
"""Of the plain codec's files, the one nearest to this rate is shown."""

PICTURES_BYTES = 5_000_000
"""Most that all pictures take on the page; they are cropped to less until they do."""

CROPS = (768, 640, 512, 448, 384, 320, 256, 192)
"""Largest sides in pixels, tried in this order."""

WEBP_QUALITY = 92

PLACES = ("best", "median", "worst")


@dataclass(frozen=True)
class Shown:
    """One version of a picture."""

    name: str
    caption: str
    source: str
    """A data URI."""


@dataclass(frozen=True)
class View:
    """One picture of one codec in its versions: the middle of it, a pixel for a pixel."""

    title: str
    width: int
    height: int
    versions: tuple[Shown, ...]


@dataclass(frozen=True)
class Viewer:
    """All views, and what could not be shown."""

    views: tuple[View, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pictures:
    title: str
    versions: tuple[tuple[str, str, Image], ...]
    """Name, caption and pixels."""


def view_pictures(
    analysis: Analysis, folder: Path, registry: Registry, on_progress: Callable[[float, str], None]
) -> Viewer:
    """Code and restore the pictures of the viewer from the originals in `folder`.

    What cannot be coded here (a model or codec that is missing) becomes a note. Raises `UsageError` for an
    original that is missing or another than in the run.
    """
    originals = _Originals(folder)
    systems = [system for system in analysis.systems if system.method == CHOOSING]
    wanted = [choice for system in systems for choice in _choices(analysis, system)]
    grey = analysis.run.about.get("suite", {}).get("definition", {}).get("channels") == 1
    pictures, notes = [], []
    for number, choice in enumerate(wanted):
        on_progress(number / len(wanted), choice.title)
        image = originals.read(choice.coded)
        if grey:
            image = luma(image)
        try:
            pictures.append(_code(choice, image, analysis, registry))
        except VcframeError as error:
            notes.append(f"{choice.title}: {error}")
    if not wanted:
        notes.append("This run has no file of networks that could be shown beside a plain one.")
    views = _fitting(pictures)
    if views:
        side = max(max(view.width, view.height) for view in views)
        notes.append(
            f"The middle of each picture, at most {side} pixels wide and high, a pixel for a pixel; on this "
            f"page as WebP of quality {WEBP_QUALITY}, to keep it small. The file of vcframe is the best "
            "within the bytes of the plain one."
        )
    return Viewer(tuple(views), tuple(notes))


class _Originals:
    def __init__(self, folder: Path) -> None:
        self._paths = {path.name: path for path in find_images([folder])}
        self._folder = folder

    def read(self, task: Task) -> Image:
        """The original of a task; `UsageError` if it is not there or another."""
        name = task.image.rsplit("/", 1)[-1]
        if name not in self._paths:
            raise UsageError(
                f"{self._folder} has no {name}; --images names the folder of the run's originals"
            )
        path = self._paths[name]
        if hashlib.sha256(path.read_bytes()).hexdigest() != task.image_sha256:
            raise UsageError(f"{path} is not the picture of the run: its SHA-256 is another")
        return read_image(path)


@dataclass(frozen=True)
class _Choice:
    """A picture to show, a file of the plain codec, and one of the networks with no more bytes."""

    title: str
    plain: Task
    coded: Task


def _choices(analysis: Analysis, system: System) -> Iterator[_Choice]:
    """The best, median and worst picture of a system with networks, where one of its files can be matched."""
    rates = _rates(analysis, system)
    ranked = sorted(rates, key=rates.__getitem__)
    middle = len(ranked) // 2
    picked = [*ranked[:1], *ranked[middle : middle + 1], *ranked[-1:]]
    # Of a few pictures one has several places, and the first counts.
    places = dict(reversed([*zip(picked, PLACES, strict=False)]))
    for image in dict.fromkeys(picked):
        choice = analysis.curves(analysis.metrics[0])[system][image]
        smallest = min((p.num_bytes for p in choice if p.scale is not None), default=math.inf)
        plain = [
            row
            for row in analysis.rows[system.plain]
            if row.task.image == image and (row.num_bytes or 0) >= smallest
        ]
        if plain:
            shown = min(plain, key=lambda row: abs((row.bpp or 0) - VIEW_BPP))
            within = [p for p in choice if p.scale is not None and p.num_bytes <= (shown.num_bytes or 0)]
            point = max(within, key=lambda p: p.num_bytes)
            tasks = [row.task for row in analysis.rows[system] if row.task.image == image]
            coded = next(task for task in tasks if (task.quality, task.scale) == (point.quality, point.scale))
            title = f"{system.codec}, {image}: {places[image]} BD-rate, {rates[image]:+.1f} %"
            yield _Choice(title, shown.task, coded)


def _rates(analysis: Analysis, system: System) -> dict[str, float]:
    """BD-rates against the plain codec by the first metric, over the first range that has any."""
    found = (
        {image: delta.value for image, delta in c.rates.items() if delta.value is not None}
        for c in analysis.comparisons
        if (c.system, c.anchor, c.metric) == (system, system.plain, analysis.metrics[0])
    )
    return next(filter(None, found), {})


def _code(choice: _Choice, image: Image, analysis: Analysis, registry: Registry) -> _Pictures:
    """The three versions: that of the networks is the best within the bytes of the plain file."""
    from vcframe.model import find_model

    task = choice.coded
    codec, plain = (registry.codec_from_config(t.config) for t in (task, choice.plain))
    about = analysis.run.about.get("models", {}).get(f"{task.codec}/{task.method}", {})
    model = find_model(about.get("id"), codec)
    alone = Way(image, plain).compress(choice.plain.quality)
    within = MostBytes(alone.num_bytes, f"{alone.num_bytes} bytes")
    coded = search(Way(image, codec, model, task.scale), within, DEFAULT_EFFORT, task.quality)
    return _Pictures(
        choice.title,
        (
            ("original", "original", image),
            (f"plain {task.codec}", _caption(alone), alone.way.restore(alone.data)),
            (f"{task.method} {task.codec}", _caption(coded), coded.way.restore(coded.data)),
        ),
    )


def _caption(coded: Compressed) -> str:
    return f"{coded.num_bytes} bytes, {coded.bpp:.3f} bpp, {coded.psnr_db:.2f} dB, quality {coded.quality:g}"


def _fitting(pictures: Sequence[_Pictures]) -> list[View]:
    """The views with the largest crops that stay within the bytes."""
    for side in CROPS:
        views = [_view(picture, side) for picture in pictures]
        # A base64 character is a byte of the page.
        if sum(len(shown.source) for view in views for shown in view.versions) <= PICTURES_BYTES:
            return views
    return views


def _view(pictures: _Pictures, side: int) -> View:
    versions = tuple(
        Shown(name, caption, _data_uri(_middle(image, side))) for name, caption, image in pictures.versions
    )
    height, width = _middle(pictures.versions[0][2], side).shape[:2]
    return View(pictures.title, width, height, versions)


def _middle(image: Image, side: int) -> Image:
    height, width = image.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return image[top : top + side, left : left + side]


def _data_uri(image: Image) -> str:
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

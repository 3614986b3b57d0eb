"""Where training pictures come from: the user's folders, or dead leaves without end.

A source is a function from an index (and a random generator keyed by it) to a crop: no hidden position, so
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
import signal
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vcframe.codec import Image, ImageError, UsageError
from vcframe.dead_leaves import SIDE, dead_leaves
from vcframe.images import as_colour, find_images, luma, read_image

HELD_OUT_SHARE = 0.04
MAX_HELD_OUT = 12
MAX_PICTURES = 1200
"""Pictures kept in memory; of a larger collection a fixed selection by digest is used."""
MAX_SIDE = 1024
"""Larger pictures contribute their middle part of this side."""


class PictureSource(Protocol):
    """Pictures to train on, and others, never trained on, to validate with."""

    @property
    def validation(self) -> Sequence[Image]:
        """Held-out pictures."""
        ...

    @property
    def summary(self) -> str:
        """Where the pictures come from and how many there are, in a few words."""
        ...

    @property
    def skipped(self) -> Sequence[str]:
        """One line for each picture that could not be read."""
        ...

    def crop(self, index: int, side: int, rng: np.random.Generator) -> Image:
        """A `(side, side, 3)` crop: random picture, size between half and full, place, flip and turn."""
        ...

    def close(self) -> None:
        """Stop worker processes."""
        ...


@dataclass
class FileSource:
    """Pictures from files, split by digest into a training and a validation part."""

    pictures: list[Image]
    validation: list[Image]
    summary: str
    skipped: list[str]

    def crop(self, index: int, side: int, rng: np.random.Generator) -> Image:
        return augment(self.pictures[rng.integers(len(self.pictures))], side, rng)

    def close(self) -> None:
        pass


def open_files(sources: Sequence[str]) -> FileSource:
    """Read folders, files and globs; unreadable pictures are left out and counted.

    Raises `UsageError` where fewer than two pictures can be read.
    """
    skipped: list[str] = []

    def load(path: Path) -> tuple[str, Image] | None:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return digest, middle(as_colour(read_image(path)), MAX_SIDE)
        except (ImageError, OSError) as error:
            skipped.append(str(error))
            return None

    paths = find_images(sources)
    if len(paths) > MAX_PICTURES:
        paths = sorted(paths, key=lambda p: hashlib.sha256(p.name.encode()).digest())[:MAX_PICTURES]
    with ThreadPoolExecutor(4) as threads:
        # A dictionary by digest: two copies of a picture must not end on either side of the split.
        loaded = sorted(dict(filter(None, threads.map(load, paths))).items())
    if len(loaded) < 2:
        reason = f" ({skipped[0]})" if skipped else ""
        raise UsageError(f"--data: {len(loaded)} readable pictures, at least 2 are needed{reason}")
    # The digests are uniform: the lowest of them are a random part that stays the same across runs.
    num_held_out = min(max(1, round(len(loaded) * HELD_OUT_SHARE)), MAX_HELD_OUT)
    summary = f"{len(loaded)} pictures, {num_held_out} held out, {len(skipped)} unreadable"
    pictures = [image for _, image in loaded]
    return FileSource(pictures[num_held_out:], pictures[:num_held_out], summary, skipped)


class DeadLeavesSource:
    """Generated pictures: picture k is a function of the seed and k, made ahead in worker processes."""

    crops_per_picture = 8
    window = 64
    """Each crop is taken from one of the latest `window` pictures."""

    def __init__(self, seed: int, num_workers: int = 2) -> None:
        self.seed = seed * 1_000_003
        # Forking a process that runs torch's threads can hang the child: start clean interpreters.
        # Ctrl-C reaches the whole process group: the run ends its workers itself, and they stay silent.
        self.workers = ProcessPoolExecutor(
            num_workers,
            mp_context=get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
        self.ready: OrderedDict[int, Future[Image]] = OrderedDict()
        self.summary = f"dead leaves, seed {seed}"
        self.skipped: list[str] = []
        # Validation pictures do not depend on the seed: runs can be compared.
        futures = [self.workers.submit(dead_leaves, 900_000_000_000 + k) for k in range(8)]
        for k in range(self.window):
            self._request(k)
        self.validation = [future.result() for future in futures]

    def crop(self, index: int, side: int, rng: np.random.Generator) -> Image:
        newest = self.window + index // self.crops_per_picture
        self._request(newest)
        picture = newest - int(rng.integers(1, self.window + 1))
        return augment(self._request(picture).result(), side, rng)

    def close(self) -> None:
        self.workers.shutdown(wait=False, cancel_futures=True)

    def _request(self, picture: int) -> Future[Image]:
        future = self.ready.get(picture)
        if future is None:
            future = self.ready[picture] = self.workers.submit(dead_leaves, self.seed + picture, SIDE)
            while len(self.ready) > 4 * self.window:
                self.ready.popitem(last=False)
        return future


def augment(picture: Image, side: int, rng: np.random.Generator) -> Image:
    """A random `(side, side, 3)` part at a random size from half to full, flipped and turned at random."""
    factor = rng.uniform(0.5, 1.0)
    height, width = (max(int(s * factor), min(s, side)) for s in picture.shape[:2])
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if min(height, width) < side:
        bottom, right = max(side - height, 0), max(side - width, 0)
        picture = np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(s - side + 1)) for s in picture.shape[:2])
    part = np.rot90(picture[top : top + side, left : left + side], int(rng.integers(4)))
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def to_channels(picture: Image, channels: int) -> Image:
    """The picture as the networks take it: colour, or luma for one channel."""
    return luma(picture) if channels == 1 else picture


def middle(picture: Image, side: int) -> Image:
    """The middle of a picture, at most `side` pixels a side."""
    top, left = (max(s - side, 0) // 2 for s in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])

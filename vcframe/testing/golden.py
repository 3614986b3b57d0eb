"""Golden files: what an earlier release of a codec wrote, beside the pictures that it decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vcframe.codec import Codec, UsageError
from vcframe.testing import pictures
from vcframe.testing.failure import require

MAX_MEAN_ERROR = 1.0
"""Mean absolute difference that is still the same picture: releases of a decoder may round differently."""


def write_golden(codec: Codec, folder: Path) -> list[Path]:
    """Write small files at the worst, a middle and the best quality, and beside each its picture (`.npy`).

    Keep the folder with the codec's tests and give it to `codec_checks`. Raises `UsageError` if it exists.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists; name a new one: files of earlier releases stay as they are")
    sweep = codec.quality_scale.sweep
    coded = {
        f"{'grey' if image.ndim == 2 else 'colour'}-{quality:g}": codec.encode(image[:40, :56], quality)
        for image in pictures.photographs(codec)
        for quality in (sweep[0], sweep[len(sweep) // 2], sweep[-1])
    }
    decoded = {name: codec.decode(data) for name, data in coded.items()}
    folder.mkdir(parents=True)
    for name, data in coded.items():
        (folder / f"{name}{codec.extension}").write_bytes(data)
        np.save(folder / f"{name}.npy", decoded[name])
    return [folder / f"{name}{codec.extension}" for name in coded]


def find_golden(codec: Codec, folder: Path) -> list[tuple[Path, Path]]:
    """The files of a folder with their pictures; raises `UsageError` where there are none."""
    pairs = [(file.with_suffix(codec.extension), file) for file in sorted(folder.glob("*.npy"))]
    if not pairs:
        raise UsageError(f"{folder} holds no golden files; write_golden or `vcframe check` makes them")
    return pairs


def golden_files(codec: Codec, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Files of an earlier release still decode, to the same pictures."""
    for file, picture in pairs:
        expected, decoded = np.load(picture), codec.decode(file.read_bytes())
        require(decoded.shape == expected.shape, f"{file.name}: {expected.shape} became {decoded.shape}")
        error = float(np.abs(decoded.astype(np.float64) - expected).mean())
        require(error <= MAX_MEAN_ERROR, f"{file.name}: mean error {error:.1f} of 255 to the earlier picture")

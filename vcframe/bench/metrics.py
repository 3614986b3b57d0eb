"""The metrics by name: vcframe's own and those that plugins bring.

Each is computed by a library that others keep; what is not installed says so, and nothing is ever downloaded.
Pictures are uint8 sRGB `(H, W, 3)` or grey `(H, W)`; the original comes first.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vcframe.codec import Image, ImageError, PluginError, UsageError
from vcframe.images import as_colour, luma, to_tensor, write_image
from vcframe.metrics import Metric, psnr, ssim
from vcframe.registry import Registry, near, unavailable_reason

MS_SSIM_MIN_SIDE = 161
"""Five scales, each half of the last, of which the smallest still holds a whole window of 11 pixels."""


VGG16_WEIGHTS = "vgg16-397923af.pth"
"""Of torchvision; LPIPS and DISTS compare what its layers see."""

SSIMULACRA2_GREYS, SSIMULACRA2_SCORE = (128, 138), 80.29
"""Two flat pictures of 256x256 and what libjxl's program says of them, as the tests of another implementation
have it (github.com/imazen/ssimulacra2, `reference_data.rs`)."""

INSTALL = "install it with: pip install 'vcframe[bench]'"


def all_metrics(registry: Registry) -> dict[str, Metric]:
    """Every metric by name, vcframe's own first; `PluginError` where a plugin's has the name of one."""
    metrics = dict(METRICS)
    for metric in registry.metrics():
        if metric.name in METRICS:
            raise PluginError(f"metric name {metric.name!r} of a plugin is vcframe's own; rename it")
        metrics[metric.name] = metric
    return metrics


def find_metrics(names: Sequence[str], registry: Registry) -> list[Metric]:
    """The metrics of these names.

    Raises `UsageError` for an unknown name (with close matches) or one that cannot run here (with why).
    """
    known = all_metrics(registry)
    for name in names:
        if name not in known:
            hint = near(name, {known_name: known_name for known_name in known})
            raise UsageError(f"unknown metric {name!r}{hint}; known: {', '.join(known)}")
        reason = unavailable_reason(known[name])
        if reason is not None:
            raise UsageError(f"metric {name!r} cannot run here: {reason}")
    return [known[name] for name in names]


def psnr_y(a: Image, b: Image) -> float:
    """PSNR of full-range BT.601 luma in dB."""
    return psnr(luma(a), luma(b))


def psnr_611(a: Image, b: Image) -> float:
    """PSNR of luma and both colour differences in dB, weighted 6:1:1; luma's alone for grey.

    Full-range BT.601 YCbCr at full resolution, rounded to 8 bits; the weights of Ohm et al., Comparison of
    the Coding Efficiency of Video Coding Standards (2012).
    """
    import PIL.Image

    if a.ndim == 2:
        return psnr(a, b)
    blue_and_red = [np.array(PIL.Image.fromarray(image).convert("YCbCr"))[:, :, 1:] for image in (a, b)]
    chroma = [psnr(*(planes[:, :, i] for planes in blue_and_red)) for i in range(2)]
    return (6 * psnr_y(a, b) + sum(chroma)) / 8


def ms_ssim(a: Image, b: Image) -> float:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003) by pytorch-msssim; colour is the mean over channels.

    NaN for pictures with a side under 161 pixels.
    """
    import pytorch_msssim
    import torch

    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return math.nan
    # Channels last: a third of the time on a processor.
    tensors = [to_tensor([image]).contiguous(memory_format=torch.channels_last) for image in (a, b)]
    return float(pytorch_msssim.ms_ssim(*tensors, data_range=1))


def lpips(a: Image, b: Image) -> float:
    """LPIPS (Zhang et al. 2018) with VGG16, by piq; 0 is identical."""
    return _by_network("LPIPS", a, b)


def dists(a: Image, b: Image) -> float:
    """DISTS (Ding et al. 2020) with VGG16, by piq; 0 is identical."""
    return _by_network("DISTS", a, b)


def vmaf(a: Image, b: Image) -> float:
    """VMAF by FFmpeg's libvmaf with its default model, of limited-range BT.601 luma; 100 at most.

    Raises `ImageError` where FFmpeg fails, with its reason.
    """
    ffmpeg = _ffmpeg()
    assert ffmpeg is not None, "checked by unavailable"
    to_yuv = "scale=out_color_matrix=bt601:out_range=tv,format=yuv444p"
    graph = f"[0:v]{to_yuv}[restored];[1:v]{to_yuv}[original];[restored][original]libvmaf="
    with _as_png(b, a) as (restored, original):
        inputs = ["-i", restored.name, "-i", original.name]
        log = restored.with_name("vmaf.json")
        graph += f"log_fmt=json:log_path={log.name}:n_threads=1"
        command = [ffmpeg, "-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=log.parent)
        if done.returncode != 0 or not log.exists():
            raise ImageError(f"vmaf: FFmpeg failed: {' '.join(done.stderr.split()) or done.returncode}")
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def ssimulacra2(a: Image, b: Image) -> float:
    """SSIMULACRA 2 by libjxl's program of that name; 100 is identical, there is no least.

    Raises `ImageError` where the program fails, with its reason.
    """
    program = shutil.which("ssimulacra2")
    assert program is not None, "checked by unavailable"
    with _as_png(a, b) as (original, restored):
        done = subprocess.run([program, original, restored], capture_output=True, text=True, check=False)
    try:
        return float(done.stdout)
    except ValueError as error:
        reason = " ".join(f"{done.stderr} {done.stdout}".split()) or done.returncode
        raise ImageError(f"ssimulacra2: the program failed: {reason}") from error


@contextlib.contextmanager
def _as_png(*images: Image) -> Iterator[list[Path]]:
    """Colour pictures as files, for what reads nothing else; they are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            write_image(path, as_colour(image))
        yield paths


def _by_network(name: str, a: Image, b: Image) -> float:
    import torch

    with torch.inference_mode():
        return float(_network(name)(*(to_tensor([as_colour(image)]) for image in (a, b))))


@functools.cache
def _network(name: str) -> Any:
    """A network of piq; its weights are on disk (`_needs_weights`), where piq looks first."""
    import piq

    return getattr(piq, name)()


@functools.cache
def _ffmpeg() -> str | None:
    """The first FFmpeg with libvmaf: that on the PATH, or that of imageio-ffmpeg."""
    candidates = [shutil.which("ffmpeg")]
    if find_spec("imageio_ffmpeg") is not None:
        import imageio_ffmpeg

        with contextlib.suppress(RuntimeError):  # there is none for this machine
            candidates.append(imageio_ffmpeg.get_ffmpeg_exe())
    for candidate in filter(None, candidates):
        filters = subprocess.run([candidate, "-filters"], capture_output=True, text=True, check=False).stdout
        if " libvmaf " in filters:
            return candidate
    return None


def _needs(module: str) -> Callable[[], str | None]:
    """A metric that runs where this module is installed."""

    def unavailable() -> str | None:
        return f"{module} is not installed; {INSTALL}" if find_spec(module) is None else None

    return unavailable


def _needs_weights(own_weights: str) -> Callable[[], str | None]:
    """A metric that runs where piq is installed and its networks' weights lie on disk."""

    def unavailable() -> str | None:
        if find_spec("piq") is None:
            return "piq is not installed; install it with: pip install piq"
        import torch

        folder = Path(torch.hub.get_dir()) / "checkpoints"
        missing = [name for name in (VGG16_WEIGHTS, own_weights) if not (folder / name).is_file()]
        return f"vcframe downloads no weights; put {' and '.join(missing)} into {folder}" if missing else None

    return unavailable


def _no_vmaf() -> str | None:
    if _ffmpeg() is None:
        return "no ffmpeg with libvmaf on the PATH; install one with: pip install imageio-ffmpeg"
    return None


@functools.cache
def _no_ssimulacra2() -> str | None:
    if shutil.which("ssimulacra2") is None:
        return "no program ssimulacra2 on the PATH; it is among libjxl's development tools"
    try:
        score = ssimulacra2(*(np.full((256, 256), level, np.uint8) for level in SSIMULACRA2_GREYS))
    except (ImageError, OSError) as error:
        return str(error)
    # There is a package whose program has the name and other scores.
    if abs(score - SSIMULACRA2_SCORE) > 0.5:
        return (
            f"the program ssimulacra2 is not libjxl's: a score of {score} where that has {SSIMULACRA2_SCORE}"
        )
    return None


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "dB", "higher", psnr),
        Metric("psnr_y", "dB", "higher", psnr_y),
        Metric("psnr_611", "dB", "higher", psnr_611),
        Metric("ssim", "", "higher", ssim),
        Metric("ms_ssim", "", "higher", ms_ssim, _needs("pytorch_msssim")),
        Metric("lpips", "", "lower", lpips, _needs_weights("lpips_weights.pt")),
        Metric("dists", "", "lower", dists, _needs_weights("dists_weights.pt")),
        Metric("vmaf", "", "higher", vmaf, _no_vmaf),
        Metric("ssimulacra2", "", "higher", ssimulacra2, _no_ssimulacra2),
    )
}
"""vcframe's own metrics. `psnr` is over all samples, so of colour it is the RGB PSNR."""

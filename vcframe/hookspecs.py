"""The markers and the hook specifications, nothing else.

Hooks return values; they never call back, so the registry knows whose result it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from vcframe.codec import Codec
from vcframe.metrics import Metric

PROJECT = "vcframe"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def vcframe_codecs() -> Iterable[type[Codec]]:
    """Return the `Codec` classes that this plugin offers."""
    raise NotImplementedError


@hookspec(firstresult=True)
def vcframe_virtual_codec(codec: Codec) -> Any:
    """Return a differentiable virtual codec (a `torch.nn.Module`) for this codec, or None.

    It maps `(x_BCHW in 0..1, unit_quality_B)` to `(decoded_BCHW, bits_B)`. The first result that is not None
    wins; where there is none the learner builds its own.
    """


@hookspec
def vcframe_metrics() -> Iterable[Metric]:
    """Return the metrics that this plugin offers; `vcframe metrics` lists them beside vcframe's own."""
    raise NotImplementedError


@hookspec
def vcframe_suites() -> Iterable[Any]:
    """Return benchmark suites: the paths of their TOML files."""
    raise NotImplementedError


@hookspec
def vcframe_methods() -> Iterable[Any]:
    """Return benchmark methods: objects with a `name` and `networks(codec)`.

    `networks` gives None where it has nothing for the codec, or an object with

    - `id`, 8 hexadecimal digits, and `scales`,
    - `describe(image, unit_quality, scale)`: what the codec is given, each side `ceil(side / scale)`,
    - `restore(decoded, unit_quality, scale, size)`: the restored picture, `size` as (H, W).
    """
    raise NotImplementedError

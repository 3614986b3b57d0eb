"""vcframe: learned networks around standard image codecs, trained through a virtual codec.

Everything exported here is importable without torch; plugins import only these names. What compresses and
restores is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

from vcframe.codec import (
    Codec,
    CodecError,
    Image,
    ImageError,
    PluginError,
    QualityScale,
    Traits,
    UsageError,
    VcframeError,
)
from vcframe.hookspecs import hookimpl
from vcframe.metrics import Metric

if TYPE_CHECKING:
    from vcframe import pillow
    from vcframe.api import compress, decompress, open

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "CodecError",
    "Image",
    "ImageError",
    "Metric",
    "PluginError",
    "QualityScale",
    "Traits",
    "UsageError",
    "VcframeError",
    "compress",
    "decompress",
    "hookimpl",
    "open",
    "pillow",
]

if not TYPE_CHECKING:  # else a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "pillow":
            return import_module("vcframe.pillow")
        if name in ("compress", "decompress", "open"):
            return getattr(import_module("vcframe.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

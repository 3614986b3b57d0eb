"""vcframe: learned networks around standard image codecs, trained through a virtual codec.

Everything exported here is importable without torch; plugins import only these names.
"""

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

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "CodecError",
    "Image",
    "ImageError",
    "PluginError",
    "QualityScale",
    "Traits",
    "UsageError",
    "VcframeError",
    "hookimpl",
]

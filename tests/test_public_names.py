"""Everything that plugins may build on, in one place: a name or an argument that leaves here breaks somebody.

Adding is free. Taking away or renaming needs a deprecation and then a new `API_VERSION` (CONTRIBUTING.md,
Stability).
"""

from __future__ import annotations

import dataclasses
import inspect

import vcframe
import vcframe.testing
from vcframe import Codec, QualityScale, Traits, hookspecs
from vcframe.registry import API_VERSION

EXPORTED = {
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
    "hookimpl",
    "compress",
    "decompress",
    "open",
    "pillow",
}
TESTING = {"Check", "CheckFailed", "Outcome", "codec_checks", "write_golden"}
HOOKS = {
    "vcframe_codecs": [],
    "vcframe_virtual_codec": ["codec"],
    "vcframe_metrics": [],
    "vcframe_suites": [],
    "vcframe_methods": [],
}
CODEC = {
    "__init__": ["self", "max_pixels", "options"],
    "encode": ["self", "image", "quality"],
    "decode": ["self", "data"],
    "version": ["self"],
    "probe": ["self", "data"],
    "embed": ["self", "data", "payload"],
    "extract": ["self", "data"],
    "unaided": ["self"],
    "unavailable": ["self"],
    "config": ["self"],
    "from_config": ["config"],
    "roundtrip": ["self", "image", "quality"],
    "check_image": ["self", "image"],
    "check_stream": ["self", "data"],
}
CODEC_FACTS = {"name", "extension", "aliases", "quality_scale", "traits", "known_failures", "Options"}
TRAITS = ["min_side", "max_side", "grey", "block", "deterministic", "speed"]
QUALITY_SCALE = ["minimum", "maximum", "step", "sweep", "meaning"]
CHECK_METHODS = {"codec_checks": ["codec", "golden"], "write_golden": ["codec", "folder"]}


def arguments(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_the_version_of_all_this() -> None:
    assert API_VERSION == 1


def test_exported_names() -> None:
    assert set(vcframe.__all__) == EXPORTED
    assert set(vcframe.testing.__all__) == TESTING
    assert all(hasattr(vcframe, name) for name in EXPORTED)


def test_hooks_and_their_arguments() -> None:
    found = {name: arguments(f) for name, f in vars(hookspecs).items() if name.startswith("vcframe_")}
    assert found == HOOKS


def test_the_codec_class() -> None:
    assert {name: arguments(getattr(Codec, name)) for name in CODEC} == CODEC
    public = {name for name in (*vars(Codec), *Codec.__annotations__) if not name.startswith("_")}
    assert public - {"options", "max_pixels"} == CODEC_FACTS | (CODEC.keys() - {"__init__"})
    assert [field.name for field in dataclasses.fields(Traits)] == TRAITS
    assert [field.name for field in dataclasses.fields(QualityScale)] == QUALITY_SCALE
    assert {name: arguments(getattr(vcframe.testing, name)) for name in CHECK_METHODS} == CHECK_METHODS

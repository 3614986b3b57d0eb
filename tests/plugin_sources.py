"""Sources of plugins for the registry's tests: whole ones, and every way to break one."""

from __future__ import annotations

import textwrap


def plugin(*codecs: str, imports: str = "", body: str = "", **facts: str) -> str:
    """Source of a plugin with one stored-bytes codec per name; `facts` replace class lines."""
    lines = {
        "extension": "extension = '.raw'",
        "quality_scale": "quality_scale = QualityScale(1, 3, 1, (1, 2, 3), 'nothing')",
        "traits": "traits = Traits()",
        "options": "",
        "version": "def version(self): return 'raw 1'",
        "more": "",
    } | facts
    classes = [
        f"class C{i}(Codec):\n    name = {name!r}\n"
        + textwrap.indent("\n".join(lines.values()), "    ")
        + METHODS
        for i, name in enumerate(codecs)
    ]
    returned = ", ".join(f"C{i}" for i in range(len(codecs)))
    hook = f"@hookimpl\ndef vcframe_codecs():\n    return [{returned}]\n" if codecs else ""
    return "\n".join([HEADER, imports, *classes, hook, textwrap.dedent(body)])


HEADER = """
from dataclasses import dataclass
import numpy as np
from vcframe import Codec, CodecError, Metric, QualityScale, Traits, hookimpl
"""

METHODS = """
    def encode(self, image, quality): return bytes([*image.shape[:2]]) + image.tobytes()
    def decode(self, data): return np.frombuffer(data[2:], np.uint8).reshape(data[0], data[1], -1)
    def probe(self, data): return data[0], data[1], 3
"""


BROKEN: dict[str, tuple[str, str]] = {
    "import": ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
    "syntax": ("def (:", "SyntaxError"),
    "exit": ("raise SystemExit('bye')", "SystemExit: bye"),
    "raising hook": (
        plugin(body="@hookimpl\ndef vcframe_codecs():\n    raise OSError('library\\n missing')"),
        "OSError: library missing",
    ),
    "raising after its codecs": (
        plugin("raw", body="@hookimpl\ndef vcframe_suites():\n    return 1 / 0"),
        "ZeroDivisionError",
    ),
    "misspelled hook": (
        plugin(body="@hookimpl\ndef vcframe_codec(): return []"),
        "unknown hook 'vcframe_codec'",
    ),
    "foreign hook": (plugin("raw", body="@hookimpl\ndef helper(): pass"), "unknown hook 'helper'"),
    "unmarked hook": (plugin(body="def vcframe_codecs(): return []"), "vcframe_codecs is not marked"),
    "unmarked, misspelled": (
        plugin("raw", body="def vcframe_metric(): return []"),
        "vcframe_metric is not marked with @hookimpl; did you mean 'vcframe_metrics'?",
    ),
    "no hook": ("def codecs(): return []", "implements no hook; hooks: vcframe_codecs"),
    "newer API": (
        plugin("raw", body="vcframe_api = 2"),
        "written for plugin API 2, this vcframe offers API 1; install a newer vcframe",
    ),
    "API not a number": (
        plugin("raw", body="vcframe_api = '1'"),
        "vcframe_api is '1', not a version such as 1",
    ),
    "wrapper": (
        plugin("raw", body="@hookimpl(wrapper=True)\ndef vcframe_metrics():\n    return (yield)"),
        "vcframe_metrics is a wrapper",
    ),
    "wrong argument": (plugin(body="@hookimpl\ndef vcframe_codecs(registry): return []"), "'registry'"),
    "nothing returned": (
        plugin(body="@hookimpl\ndef vcframe_codecs(): pass"),
        "vcframe_codecs returned None",
    ),
    "not iterable": (plugin(body="@hookimpl\ndef vcframe_codecs(): return 3"), "not iterable"),
    "not a class": (
        plugin(body="@hookimpl\ndef vcframe_codecs(): return ['jpeg']"),
        "'jpeg', which is not a sub",
    ),
    "not a codec": (
        plugin(body="@hookimpl\ndef vcframe_codecs(): return [int]"),
        "not a subclass of vcframe.Codec",
    ),
    "an instance": (
        plugin(
            imports="from conftest import ToyCodec",
            body="@hookimpl\ndef vcframe_codecs(): return [ToyCodec()]",
        ),
        "not a subclass of vcframe.Codec",
    ),
    "abstract": (plugin("raw", version=""), "C0 does not implement version"),
    "final": (plugin("raw", more="def config(self): return {}"), "C0 overrides config, which is final"),
    "final class method": (
        plugin("raw", more="from_config = None"),
        "C0 overrides from_config, which is final",
    ),
    "bad name": (plugin("Raw!"), "C0.name is 'Raw!', not like 'jpeg'"),
    "twice one name": (plugin("raw", "raw"), "offers two codecs with one name: raw, raw"),
    "bad extension": (plugin("raw", extension="extension = 'raw'"), "C0.extension is 'raw', not like '.jpg'"),
    "bad alias": (plugin("raw", more="aliases = ('.row', 'rau')"), "C0.aliases is ('.row', 'rau'), not like"),
    "lone alias": (plugin("raw", more="aliases = '.row'"), "C0.aliases is '.row', not like"),
    "option of everybody's": (
        plugin("raw", options="@dataclass(frozen=True)\nclass Options:\n    max_pixels: int = 1"),
        "C0.Options.max_pixels: every codec has that limit",
    ),
    "no extension": (plugin("raw", extension=""), "C0.extension is None"),
    "no scale": (plugin("raw", quality_scale=""), "C0.quality_scale is None, not a QualityScale"),
    "impossible scale": (
        plugin("raw", quality_scale="quality_scale = QualityScale(1, 3, 1, (1, 3), 'short')"),
        "strictly monotone with 3 or more",
    ),
    "no traits": (plugin("raw", traits="traits = {'block': 8}"), "not a Traits"),
    "zero block": (plugin("raw", traits="traits = Traits(block=0)"), "traits.block is 0, not 1 or more"),
    "float side": (
        plugin("raw", traits="traits = Traits(min_side=1.5)"),
        "traits.min_side is 1.5, not 1 or more",
    ),
    "no bool": (plugin("raw", traits="traits = Traits(grey=1)"), "traits.grey is 1, not True or False"),
    "no speed": (
        plugin("raw", traits="traits = Traits(speed='quick')"),
        "traits.speed is 'quick', not 'fast' or 'medium' or 'slow'",
    ),
    "sides crossed": (
        plugin("raw", traits="traits = Traits(min_side=9, max_side=8)"),
        "larger than max_side",
    ),
    "thawed options": (
        plugin("raw", options="@dataclass\nclass Options:\n    a: int = 1"),
        "not a frozen dataclass",
    ),
    "plain options": (plugin("raw", options="class Options:\n    a = 1"), "not a frozen dataclass"),
    "undecorated options": (
        plugin("raw", options="class Options(Codec.Options):\n    a: int = 1"),
        "not a frozen dataclass",
    ),
    "no default": (
        plugin("raw", options="@dataclass(frozen=True)\nclass Options:\n    a: int"),
        "C0.Options.a has no default",
    ),
    "option not JSON": (
        plugin("raw", options="@dataclass(frozen=True)\nclass Options:\n    a: bytes = b'x'"),
        "not JSON serializable",
    ),
    "option changed by JSON": (
        plugin("raw", options="@dataclass(frozen=True)\nclass Options:\n    a: tuple[int, ...] = (1, 2)"),
        "a=[1, 2] is not of type",
    ),
    "no metric": (
        plugin("raw", body="@hookimpl\ndef vcframe_metrics(): return [len]"),
        "vcframe_metrics returned <built-in function len>, which is not a vcframe.Metric",
    ),
    "metric without a direction": (
        plugin("raw", body="@hookimpl\ndef vcframe_metrics(): return [Metric('m', '', 'more', len)]"),
        "metric m: better='more' is neither 'higher' nor 'lower'",
    ),
}
"""Fault: the plugin's source, and what the reason for refusing it must say."""

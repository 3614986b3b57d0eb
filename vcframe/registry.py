"""Find, load, validate and look up plugins; remember where each came from.

Every plugin gets a `pluggy` manager of its own: a plugin that raises, misspells a hook or declares a wrong
argument can then spoil nothing but itself, and the registry always knows whose result it holds. A plugin is
taken whole or not at all.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import sys
import types
import typing
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pluggy

from vcframe import hookspecs
from vcframe.codec import Codec, CodecError, PluginError, QualityScale, Traits, UsageError, VcframeError
from vcframe.metrics import Metric

GROUP = hookspecs.PROJECT
"""The entry-point group, which is the project's name as pluggy's own convention has it."""

API_VERSION = 1
"""Of the hooks and of what `vcframe` exports; rises when a plugin written for the last one may break."""

_PLUGIN_FAULTS = (Exception, SystemExit)
"""What a guard holds back: a plugin may not end the process either, but Ctrl-C still does."""

_warned: set[str] = set()


@dataclass(frozen=True)
class PluginRecord:
    """One plugin that was found, whether it could be used, and if not, why."""

    name: str
    distribution: str
    version: str
    source: str
    """The module that the entry point names, or the path of a plugin file."""
    status: Literal["loaded", "failed"]
    reason: str | None
    codecs: tuple[str, ...]


@dataclass(frozen=True)
class CodecRecord:
    """A codec class and the plugin that brought it."""

    codec: type[Codec]
    plugin: str
    distribution: str


@dataclass(frozen=True, eq=False)
class _Found:
    """A plugin before it is imported; compared by identity, because two may claim one name."""

    name: str
    distribution: str
    version: str
    source: str
    is_file: bool
    load: Callable[[], object]

    def __str__(self) -> str:
        return self.source if self.is_file else f"{self.distribution} {self.version} ({self.source})"


@dataclass(frozen=True)
class _Loaded:
    """A plugin that passed every check, with what its hooks returned."""

    found: _Found
    hooks: pluggy.HookRelay
    codecs: tuple[type[Codec], ...]
    metrics: tuple[Metric, ...]
    suites: tuple[Any, ...]
    methods: tuple[Any, ...]


class Registry:
    """The plugins of this environment and the codecs that they offer; made by `Registry.load`."""

    plugins: tuple[PluginRecord, ...]
    codecs: Mapping[str, CodecRecord]

    def __init__(self, loaded: Sequence[_Loaded], failures: Mapping[_Found, BaseException]) -> None:
        usable = [_record(p.found, None, sorted(c.name for c in p.codecs)) for p in loaded]
        refused = [_record(found, _one_line(error), []) for found, error in failures.items()]
        self.plugins = tuple(sorted(usable + refused, key=lambda r: (r.name, r.distribution)))
        offered = sorted(((c.name, c, p.found) for p in loaded for c in p.codecs), key=lambda row: row[0])
        self.codecs = types.MappingProxyType(
            {name: CodecRecord(codec, found.name, found.distribution) for name, codec, found in offered}
        )
        self._loaded = tuple(loaded)

    @classmethod
    def load(cls, plugin_files: Sequence[Path] = ()) -> Registry:
        """Load every installed plugin and the given one-file plugins.

        A broken installed plugin is warned about once on standard error and listed as failed. A plugin file
        was asked for by name, so its failure raises `PluginError`; so does any failure when `VCFRAME_STRICT`
        is set to anything but 0, and a name in `VCFRAME_PLUGINS` (comma-separated subset) that is not
        installed.
        """
        found = [*map(_plugin_file, plugin_files), *_installed(os.environ.get("VCFRAME_PLUGINS", ""))]
        failures: dict[_Found, BaseException] = {**_clashes("plugin", {f: [f.name] for f in found})}
        loaded: dict[_Found, _Loaded] = {}
        for candidate in found:
            if candidate not in failures:
                try:
                    loaded[candidate] = _load(candidate)
                except _PLUGIN_FAULTS as error:
                    failures[candidate] = error
        failures |= _clashes("codec", {f: [c.name for c in p.codecs] for f, p in loaded.items()})
        failures |= _clashes("metric", {f: [m.name for m in p.metrics] for f, p in loaded.items()})
        for candidate, failure in failures.items():
            _report(candidate, failure)
        return cls([p for f, p in loaded.items() if f not in failures], failures)

    def codec(self, name: str, /, **options: Any) -> Codec:
        """Build the codec `name` with the keywords of `Codec.__init__`: its options and `max_pixels`.

        Raises `PluginError` where no plugin offers it (naming close matches) or where it cannot run here
        (saying what to install), `UsageError` for a wrong option.
        """
        return _available(self._class(name)(**options))

    def codec_from_config(self, config: Mapping[str, Any]) -> Codec:
        """Build a codec from `Codec.config()` or what a user typed in its place; raises as `codec` does."""
        name, options = config.get("codec"), config.get("options", {})
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise UsageError(f"not a codec configuration (needs 'codec' and 'options'): {dict(config)!r}")
        return _available(self._class(name).from_config(config))

    def virtual_codec(self, codec: Codec) -> Any | None:
        """The first of `virtual_codecs`, or None where there is none."""
        return next((virtual for _, virtual in self.virtual_codecs(codec)), None)

    def virtual_codecs(self, codec: Codec) -> Iterator[tuple[str, Any]]:
        """Every virtual codec that plugins offer for `codec`, each after its plugin's name.

        Plugin files are asked first, then installed plugins by name; `tryfirst` and `trylast` are honoured
        across plugins. A plugin that raises is reported as in `load` and passed over.
        """
        for plugin in sorted(self._loaded, key=_virtual_codec_order):
            try:
                virtual = plugin.hooks.vcframe_virtual_codec(codec=codec)
            except _PLUGIN_FAULTS as error:
                _report(plugin.found, error)
                continue
            if virtual is not None:
                yield plugin.found.name, virtual

    def metrics(self) -> tuple[Metric, ...]:
        """Every metric that plugins offer."""
        return tuple(metric for plugin in self._loaded for metric in plugin.metrics)

    def suites(self) -> tuple[Any, ...]:
        """Every benchmark suite that plugins offer."""
        return tuple(suite for plugin in self._loaded for suite in plugin.suites)

    def methods(self) -> tuple[Any, ...]:
        """Every benchmark method that plugins offer."""
        return tuple(method for plugin in self._loaded for method in plugin.methods)

    def _class(self, name: str) -> type[Codec]:
        record = self.codecs.get(name)
        if record is None:
            raise PluginError(self._unknown_codec(name))
        return record.codec

    def _unknown_codec(self, name: str) -> str:
        # Of two codecs that write one format the first is named.
        known = {
            alias.lstrip("."): c
            for c, r in reversed(list(self.codecs.items()))
            for alias in (r.codec.extension, *r.codec.aliases, c)
        }
        broken = [f"plugin {r.name!r} failed ({r.reason})" for r in self.plugins if r.status == "failed"]
        return "; ".join(
            [
                f"unknown codec {name!r}{near(name, known)}",
                f"installed: {', '.join(self.codecs) or 'none'}",
                *broken,
                f"to add one, pip install a package with an entry point {GROUP!r} or give --plugin FILE",
            ]
        )


@contextmanager
def guarded(codec: Codec) -> Iterator[None]:
    """Hold back what a codec raises against the contract: warned about, it leaves as `CodecError`."""
    try:
        yield
    except VcframeError:
        raise
    except _PLUGIN_FAULTS as error:
        line = f"codec {codec.name!r} failed unexpectedly: {_one_line(error)}"
        warn_once(line)
        raise CodecError(line) from error


def warn_once(line: str) -> None:
    """Print a line on standard error, unless this process has printed it before."""
    if line not in _warned:
        _warned.add(line)
        print(f"vcframe: {line}", file=sys.stderr)


def _available(codec: Codec) -> Codec:
    reason = unavailable_reason(codec)
    if reason is not None:
        raise PluginError(f"codec {codec.name!r} cannot run here: {reason}")
    return codec


def unavailable_reason(offered: Codec | Metric) -> str | None:
    """Why a codec or a metric cannot run here; a probe that raises counts as unavailable for that reason."""
    try:
        return offered.unavailable()
    except _PLUGIN_FAULTS as error:
        return _one_line(error)


def _record(found: _Found, reason: str | None, codecs: Sequence[str]) -> PluginRecord:
    status: Literal["loaded", "failed"] = "loaded" if reason is None else "failed"
    return PluginRecord(
        found.name, found.distribution, found.version, found.source, status, reason, tuple(codecs)
    )


def _installed(subset: str) -> list[_Found]:
    """Plugins named in the metadata of installed distributions, by name; nothing is imported."""
    found = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        distribution = entry.dist.name if entry.dist else "unknown distribution"
        version = entry.dist.version if entry.dist else ""
        found.append(_Found(entry.name, distribution, version, entry.value, False, entry.load))
    found.sort(key=lambda f: (f.name, f.distribution))
    wanted = {name.strip() for name in subset.split(",") if name.strip()}
    if not wanted:
        return found
    names = {f.name: f.name for f in found}
    for name in sorted(wanted - names.keys()):
        installed = ", ".join(names) or "none"
        raise PluginError(
            f"VCFRAME_PLUGINS names an unknown plugin {name!r}{near(name, names)}; installed: {installed}"
        )
    return [f for f in found if f.name in wanted]


def _plugin_file(path: Path) -> _Found:
    return _Found(path.stem, "plugin file", "", str(path), True, lambda: import_file(path))


def import_file(path: Path) -> types.ModuleType:
    """Import one file under a name that no other path shares.

    Raises `PluginError` where it is no Python file, and whatever its code raises.
    """
    if not path.exists():
        raise PluginError("no such file")
    if not path.is_file() or path.suffix != ".py":
        raise PluginError("a plugin file is one Python file, NAME.py")
    name = f"vcframe_plugin_file_{path.stem}_{zlib.crc32(os.fsencode(path.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and get_type_hints look their module up by name, while it runs and later.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load(found: _Found) -> _Loaded:
    """Import one plugin, check its hooks and take what they return; raises whatever is wrong with it."""
    plugin = found.load()
    _check_api(plugin)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    known = {hook.removeprefix(f"{GROUP}_"): hook for hook in vars(manager.hook) if hook[0] != "_"}
    manager.register(plugin, found.name)
    manager.check_pending()
    marked = [impl for caller in manager.get_hookcallers(plugin) or [] for impl in caller.get_hookimpls()]
    _check_unmarked(plugin, {impl.function for impl in marked}, known)
    if not marked:
        raise PluginError(f"implements no hook; hooks: {', '.join(known.values())}, marked with @hookimpl")
    for impl in marked:
        if impl.wrapper or impl.hookwrapper:
            raise PluginError(f"{impl.function.__name__} is a wrapper; each plugin is called on its own")
    codecs = _items(manager.hook.vcframe_codecs)
    for codec in codecs:
        check_codec_class(codec)
    names = [codec.name for codec in codecs]
    if len(set(names)) < len(names):
        raise PluginError(f"offers two codecs with one name: {', '.join(sorted(names))}")
    metrics = _items(manager.hook.vcframe_metrics)
    for metric in metrics:
        if not isinstance(metric, Metric):
            raise PluginError(f"vcframe_metrics returned {metric!r}, which is not a vcframe.Metric")
    methods = _items(manager.hook.vcframe_methods)
    for method in methods:
        if not (
            isinstance(getattr(method, "name", None), str) and callable(getattr(method, "networks", None))
        ):
            raise PluginError(f"method {method!r} needs a name and networks(codec)")
    return _Loaded(found, manager.hook, codecs, metrics, _items(manager.hook.vcframe_suites), methods)


def _check_api(plugin: object) -> None:
    """Refuse a plugin that states another API version; one that states none is taken for the first."""
    stated = getattr(plugin, "vcframe_api", 1)
    if type(stated) is not int or stated < 1:
        raise PluginError(f"vcframe_api is {stated!r}, not a version such as {API_VERSION}")
    if stated != API_VERSION:
        remedy = "a newer vcframe" if stated > API_VERSION else "a newer release of the plugin"
        raise PluginError(
            f"written for plugin API {stated}, this vcframe offers API {API_VERSION}; install {remedy}"
        )


def _check_unmarked(plugin: object, marked: set[object], known: Mapping[str, str]) -> None:
    """Refuse functions that look like hooks but would never be called."""
    for name, member in inspect.getmembers_static(plugin):
        if name.startswith(f"{GROUP}_") and inspect.isfunction(member) and member not in marked:
            hint = "" if name in known.values() else near(name.removeprefix(f"{GROUP}_"), known)
            raise PluginError(f"function {name} is not marked with @hookimpl{hint}")


def _items(caller: pluggy.HookCaller) -> tuple[Any, ...]:
    results = caller()
    # pluggy drops None, so a forgotten `return` would pass for a plugin with nothing to offer.
    if len(results) < len(caller.get_hookimpls()):
        raise PluginError(f"{caller.name} returned None instead of an iterable")
    return tuple(item for result in results for item in result)


def check_codec_class(codec: object) -> None:
    """Raise `PluginError` naming the first thing in which a class falls short of the codec contract."""
    if not (isinstance(codec, type) and issubclass(codec, Codec)):
        raise PluginError(f"vcframe_codecs returned {codec!r}, which is not a subclass of vcframe.Codec")
    if inspect.isabstract(codec):
        missing = ", ".join(sorted(codec.__abstractmethods__))
        raise PluginError(f"{codec.__name__} does not implement {missing}")
    for owner in codec.__mro__[: codec.__mro__.index(Codec)]:
        for name in sorted(_FINAL & vars(owner).keys()):
            raise PluginError(f"{codec.__name__} overrides {name}, which is final")
    for name, (pattern, example) in _PATTERNS.items():
        value = getattr(codec, name, None)
        if not _matches(pattern, value):
            raise PluginError(f"{codec.__name__}.{name} is {value!r}, not like {example!r} ({pattern})")
    if not all(_matches(_PATTERNS["extension"][0], alias) for alias in codec.aliases):
        raise PluginError(f"{codec.__name__}.aliases is {codec.aliases!r}, not like ('.jpeg',)")
    for name, kind in (("quality_scale", QualityScale), ("traits", Traits)):
        value = getattr(codec, name, None)
        if not isinstance(value, kind):
            raise PluginError(f"{codec.__name__}.{name} is {value!r}, not a {kind.__name__}")
    _check_traits(codec)
    _check_options(codec)


_FINAL = {n for n, member in vars(Codec).items() if getattr(inspect.unwrap(member), "__final__", False)}
_PATTERNS = {"name": (r"[a-z0-9_-]+", "jpeg"), "extension": (r"\.[a-z0-9]+", ".jpg")}


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _check_traits(codec: type[Codec]) -> None:
    for name, hint in typing.get_type_hints(Traits).items():
        value = getattr(codec.traits, name)
        choices = typing.get_args(hint)
        fits = value in choices if choices else type(value) is hint and (hint is bool or value >= 1)
        if not fits:
            wanted = " or ".join(map(repr, choices)) or ("True or False" if hint is bool else "1 or more")
            raise PluginError(f"{codec.__name__}.traits.{name} is {value!r}, not {wanted}")
    if codec.traits.min_side > codec.traits.max_side:
        raise PluginError(f"{codec.__name__}.traits: min_side is larger than max_side")


def _check_options(codec: type[Codec]) -> None:
    """A frozen dataclass with a default everywhere, whose configuration survives JSON."""
    options = codec.Options
    # In the class's own namespace: an undecorated subclass of a dataclass would lose its fields silently.
    parameters = vars(options).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise PluginError(f"{codec.__name__}.Options is not a frozen dataclass")
    for field in dataclasses.fields(options):
        if field.name == "max_pixels":
            raise PluginError(f"{codec.__name__}.Options.max_pixels: every codec has that limit by itself")
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PluginError(f"{codec.__name__}.Options.{field.name} has no default")
    instance = codec()
    if codec.from_config(json.loads(json.dumps(instance.config()))) != instance:
        raise PluginError(f"{codec.__name__}.Options does not survive a JSON round trip: {instance.options}")


def _clashes(kind: str, names: Mapping[_Found, Iterable[str]]) -> dict[_Found, PluginError]:
    """Every plugin that shares a name with another one, with an error that names all who claim it."""
    owners: dict[str, list[_Found]] = defaultdict(list)
    for found, claimed in names.items():
        for name in claimed:
            owners[name].append(found)
    return {
        found: PluginError(f"{kind} name {name!r} is claimed by {' and '.join(map(str, group))}; keep one")
        for name, group in owners.items()
        if len(group) > 1
        for found in group
    }


def _virtual_codec_order(plugin: _Loaded) -> int:
    impls = plugin.hooks.vcframe_virtual_codec.get_hookimpls()
    return sum(impl.trylast - impl.tryfirst for impl in impls)


def _report(found: _Found, error: BaseException) -> None:
    """Make a plugin's failure an error where it was asked for by name or under strict; else warn once."""
    line = f"plugin {found.name!r} of {found}: {_one_line(error)}"
    if found.is_file or os.environ.get("VCFRAME_STRICT", "0") not in ("", "0"):
        raise PluginError(line) from error
    warn_once(f"skipped {line}")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"


def near(name: str, known: Mapping[str, str]) -> str:
    """`; did you mean 'x'?` for the close matches among the keys of `known`, naming their values."""
    from difflib import get_close_matches

    matches = dict.fromkeys(known[match] for match in get_close_matches(name.lower(), known))
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""

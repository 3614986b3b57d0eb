from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Installer
from plugin_sources import BROKEN, plugin

import vcframe.registry
from vcframe import Codec, CodecError, Image, PluginError, UsageError
from vcframe.registry import Registry

BUILT_IN = [
    "av1",
    "avif",
    "h264",
    "heic",
    "hevc",
    "jpeg",
    "jpeg2000",
    "jpegxl",
    "mozjpeg",
    "neural",
    "vvc",
    "webp",
]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VCFRAME_STRICT", "VCFRAME_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(vcframe.registry, "_warned", set())


def reason(registry: Registry, name: str) -> str:
    """Why the one plugin called `name` was refused."""
    (record,) = [r for r in registry.plugins if r.name == name]
    assert record.status == "failed"
    assert record.codecs == ()
    assert record.reason is not None
    return record.reason


class TestFinding:
    def test_the_four_backends_enter_through_the_entry_points(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        registry = Registry.load()
        assert list(registry.codecs) == BUILT_IN
        assert capfd.readouterr().err == ""
        for record in registry.plugins:
            assert (record.distribution, record.status, record.reason) == ("vcframe", "loaded", None)
        for record in [r for r in registry.plugins if r.source != "vcframe_suites"]:
            assert record.source == f"vcframe_plugins.{record.name}"
            assert record.codecs == (record.name,)

    def test_a_stranger_s_plugin_is_found_with_its_distribution(self, install: Installer) -> None:
        install("vcframe-raw", {"raw": "raw_plugin"}, raw_plugin=plugin("raw", "raw-2"))
        registry = Registry.load()
        assert list(registry.codecs) == sorted([*BUILT_IN, "raw", "raw-2"])
        (record,) = [r for r in registry.plugins if r.name == "raw"]
        assert (record.distribution, record.version, record.source) == ("vcframe-raw", "1.5", "raw_plugin")
        assert record.codecs == ("raw", "raw-2")
        assert registry.codecs["raw-2"].plugin == "raw"
        assert registry.codecs["raw-2"].distribution == "vcframe-raw"
        image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        assert np.array_equal(registry.codec("raw-2").roundtrip(image, 1)[0], image)

    def test_a_subset_loads_nothing_else(self, install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
        install("bad", {"bad": "bad_plugin"}, bad_plugin="raise RuntimeError('imported')")
        install("raw", {"raw": "raw_plugin"}, raw_plugin=plugin("raw"))
        monkeypatch.setenv("VCFRAME_STRICT", "1")
        monkeypatch.setenv("VCFRAME_PLUGINS", "raw, jpeg,")
        registry = Registry.load()
        assert [r.name for r in registry.plugins] == ["jpeg", "raw"]

    def test_an_unknown_name_in_the_subset_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VCFRAME_PLUGINS", "jpeg,wepb")
        with pytest.raises(
            PluginError, match=r"unknown plugin 'wepb'; did you mean 'webp'\?; installed: av1"
        ):
            Registry.load()


class TestIsolation:
    @pytest.mark.parametrize("fault", BROKEN)
    def test_a_broken_plugin_is_listed_warned_about_once_and_skipped(
        self, fault: str, install: Installer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source, expected = BROKEN[fault]
        install("vcframe-broken", {"broken": "broken_plugin"}, broken_plugin=source)
        install("vcframe-fine", {"fine": "fine_plugin"}, fine_plugin=plugin("fine"))
        registry = Registry.load()
        Registry.load()
        why = reason(registry, "broken")
        assert expected in why
        assert "\n" not in why
        assert list(registry.codecs) == sorted([*BUILT_IN, "fine"])
        (line,) = capfd.readouterr().err.splitlines()
        assert line == f"vcframe: skipped plugin 'broken' of vcframe-broken 1.5 (broken_plugin): {why}"

    def test_an_older_api_names_both_versions_and_the_remedy(
        self, install: Installer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vcframe.registry, "API_VERSION", 2)
        monkeypatch.setenv("VCFRAME_PLUGINS", "old,new,silent")
        for name, body in (("old", "vcframe_api = 1"), ("new", "vcframe_api = 2"), ("silent", "")):
            install(
                f"vcframe-{name}", {name: f"{name}_plugin"}, **{f"{name}_plugin": plugin(name, body=body)}
            )
        registry = Registry.load()
        assert list(registry.codecs) == ["new"]
        for name in ("old", "silent"):
            assert reason(registry, name) == (
                "written for plugin API 1, this vcframe offers API 2; install a newer release of the plugin"
            )

    @pytest.mark.parametrize("fault", ["import", "exit", "raising hook", "misspelled hook", "abstract"])
    def test_strict_makes_it_an_error(
        self, fault: str, install: Installer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, expected = BROKEN[fault]
        install("vcframe-broken", {"broken": "broken_plugin"}, broken_plugin=source)
        monkeypatch.setenv("VCFRAME_STRICT", "1")
        with pytest.raises(PluginError, match=r"plugin 'broken' of vcframe-broken 1\.5") as caught:
            Registry.load()
        assert expected in str(caught.value)
        assert caught.value.__cause__ is not None

    def test_strict_may_be_switched_off(self, install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
        install("vcframe-broken", {"broken": "broken_plugin"}, broken_plugin="import no_such_library")
        monkeypatch.setenv("VCFRAME_STRICT", "0")
        assert list(Registry.load().codecs) == BUILT_IN

    def test_ctrl_c_is_not_held_back(self, install: Installer) -> None:
        install("slow", {"slow": "slow_plugin"}, slow_plugin="raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            Registry.load()


class TestClashes:
    def test_two_plugins_with_one_name_are_both_refused(
        self, install: Installer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        install("first-dist", {"raw": "first_plugin"}, first_plugin=plugin("one"))
        install("second-dist", {"raw": "second_plugin"}, second_plugin=plugin("two"))
        registry = Registry.load()
        assert list(registry.codecs) == BUILT_IN
        records = [r for r in registry.plugins if r.name == "raw"]
        assert [r.distribution for r in records] == ["first-dist", "second-dist"]
        for record in records:
            assert record.status == "failed"
            assert record.reason == (
                "plugin name 'raw' is claimed by first-dist 1.5 (first_plugin) and "
                "second-dist 1.5 (second_plugin); keep one"
            )
        assert len(capfd.readouterr().err.splitlines()) == 2

    def test_two_codecs_with_one_name_are_both_refused(
        self, install: Installer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        install("first-dist", {"first": "first_plugin"}, first_plugin=plugin("raw", "other"))
        install("second-dist", {"second": "second_plugin"}, second_plugin=plugin("raw"))
        registry = Registry.load()
        assert list(registry.codecs) == BUILT_IN
        for name in ("first", "second"):
            assert reason(registry, name) == (
                "codec name 'raw' is claimed by first-dist 1.5 (first_plugin) and "
                "second-dist 1.5 (second_plugin); keep one"
            )
        assert len(capfd.readouterr().err.splitlines()) == 2
        with pytest.raises(PluginError, match=r"unknown codec 'raw'.*claimed by first-dist"):
            registry.codec("raw")

    def test_a_built_in_codec_cannot_be_replaced_silently(self, install: Installer) -> None:
        install("better-jpeg", {"better": "better_plugin"}, better_plugin=plugin("jpeg"))
        registry = Registry.load()
        assert "jpeg" not in registry.codecs
        assert "vcframe" in reason(registry, "jpeg")
        assert "better-jpeg 1.5" in reason(registry, "jpeg")
        assert reason(registry, "better") == reason(registry, "jpeg")

    def test_the_subset_resolves_a_clash_of_codecs(
        self, install: Installer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install("better-jpeg", {"better": "better_plugin"}, better_plugin=plugin("jpeg"))
        monkeypatch.setenv("VCFRAME_PLUGINS", "better,webp")
        registry = Registry.load()
        assert registry.codecs["jpeg"].distribution == "better-jpeg"

    def test_strict_makes_a_clash_an_error(self, install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
        install("better-jpeg", {"better": "better_plugin"}, better_plugin=plugin("jpeg"))
        monkeypatch.setenv("VCFRAME_STRICT", "1")
        with pytest.raises(PluginError, match=r"codec name 'jpeg' is claimed by better-jpeg 1\.5"):
            Registry.load()


class TestPluginFiles:
    def test_one_file_needs_no_packaging(self, tmp_path: Path) -> None:
        path = tmp_path / "my-codec.py"
        # Postponed annotations make the options look their types up in the module by its name.
        source = plugin("raw", options="@dataclass(frozen=True)\nclass Options:\n    mode: Mode = 'a'")
        header = "from __future__ import annotations\nfrom typing import Literal\nMode = Literal['a', 'b']\n"
        path.write_text(header + source)
        registry = Registry.load(plugin_files=[path])
        assert list(registry.codecs) == sorted([*BUILT_IN, "raw"])
        (record,) = [r for r in registry.plugins if r.name == "my-codec"]
        assert (record.source, record.status, record.codecs) == (str(path), "loaded", ("raw",))
        assert registry.codec("raw", mode="b").config() == {"codec": "raw", "options": {"mode": "b"}}
        with pytest.raises(UsageError, match="mode='c' is not one of a, b"):
            registry.codec("raw", mode="c")

    @pytest.mark.parametrize(
        "fault", ["import", "syntax", "exit", "raising hook", "misspelled hook", "no default"]
    )
    def test_a_fault_in_a_file_that_was_asked_for_is_an_error(self, fault: str, tmp_path: Path) -> None:
        source, expected = BROKEN[fault]
        path = tmp_path / "mine.py"
        path.write_text(source)
        with pytest.raises(PluginError) as caught:
            Registry.load(plugin_files=[path])
        assert str(caught.value).startswith(f"plugin 'mine' of {path}: ")
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PluginError, match=r"missing\.py: no such file"):
            Registry.load(plugin_files=[tmp_path / "missing.py"])

    @pytest.mark.parametrize("name", ["folder", "plugin.txt"])
    def test_something_else_than_a_python_file_is_refused(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "plugin.txt").write_text(plugin("raw"))
        with pytest.raises(PluginError, match="a plugin file is one Python file"):
            Registry.load(plugin_files=[tmp_path / name])

    def test_a_clash_with_an_installed_codec_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.py"
        path.write_text(plugin("webp"))
        with pytest.raises(PluginError, match=r"codec name 'webp' is claimed by .*mine\.py and vcframe"):
            Registry.load(plugin_files=[path])

    def test_two_files_of_one_name_clash(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "mine.py").write_text(plugin(folder))
        with pytest.raises(
            PluginError, match=r"plugin name 'mine' is claimed by .*a/mine\.py and .*b/mine\.py"
        ):
            Registry.load(plugin_files=[tmp_path / "a/mine.py", tmp_path / "b/mine.py"])

    def test_a_subset_leaves_plugin_files_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine.py").write_text(plugin("raw"))
        monkeypatch.setenv("VCFRAME_PLUGINS", "jpeg")
        assert list(Registry.load(plugin_files=[tmp_path / "mine.py"]).codecs) == ["jpeg", "raw"]


class TestLookingUp:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("wepb", "'webp'"),
            ("WEBP", "'webp'"),
            ("jpg", "'jpeg'"),
            ("j2k", "'jpeg2000'"),
            ("h265", "'hevc'"),
            ("xyz", None),
        ],
    )
    def test_an_unknown_name_is_answered_with_close_matches(self, name: str, expected: str | None) -> None:
        with pytest.raises(PluginError) as caught:
            Registry.load().codec(name)
        message = str(caught.value)
        assert message.startswith(f"unknown codec {name!r}")
        assert (f"did you mean {expected}" in message) if expected else ("did you mean" not in message)
        assert f"installed: {', '.join(BUILT_IN)}" in message
        assert "pip install" in message
        assert "--plugin FILE" in message
        assert "\n" not in message

    def test_a_plugin_that_failed_is_mentioned(self, install: Installer) -> None:
        install("vcframe-raw", {"raw": "raw_plugin"}, raw_plugin="import no_such_library")
        with pytest.raises(
            PluginError, match=r"plugin 'raw' failed \(ModuleNotFoundError: .*no_such_library"
        ):
            Registry.load().codec("raw")

    @pytest.mark.parametrize(
        "method", ["return 'libraw is missing; pip install raw'", "raise OSError('no libraw')"]
    )
    def test_an_unavailable_codec_is_listed_but_says_what_to_install(
        self, method: str, install: Installer
    ) -> None:
        source = plugin("raw", more=f"def unavailable(self): {method}")
        install("vcframe-raw", {"raw": "raw_plugin"}, raw_plugin=source)
        registry = Registry.load()
        assert "raw" in registry.codecs
        with pytest.raises(PluginError, match=r"codec 'raw' cannot run here: .*(pip install raw|no libraw)"):
            registry.codec("raw")

    def test_options_and_limits_reach_the_codec(self) -> None:
        registry = Registry.load()
        codec = registry.codec("webp", method="2", max_pixels=10)
        assert codec.config()["options"]["method"] == 2
        assert codec.max_pixels == 10
        with pytest.raises(UsageError, match="webp has no option 'metod'"):
            registry.codec("webp", metod=2)
        with pytest.raises(UsageError, match="webp has no option 'max_pixels'"):
            registry.codec_from_config({"codec": "webp", "options": {"max_pixels": 10}})

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_a_configuration_rebuilds_its_codec(self, name: str) -> None:
        registry = Registry.load()
        codec = registry.codec(name)
        assert registry.codec_from_config(json.loads(json.dumps(codec.config()))) == codec

    @pytest.mark.parametrize("config", [{}, {"codec": 5}, {"codec": "jpeg", "options": [1]}])
    def test_something_else_than_a_configuration_is_refused(self, config: dict[str, object]) -> None:
        with pytest.raises(UsageError, match="not a codec configuration"):
            Registry.load().codec_from_config(config)

    def test_aliases_count_as_close_matches(self, install: Installer) -> None:
        install("raw", {"raw": "raw_plugin"}, raw_plugin=plugin("raw", more="aliases = ('.bitmap',)"))
        with pytest.raises(PluginError, match=r"unknown codec 'bitmaps'; did you mean 'raw'\?"):
            Registry.load().codec("bitmaps")

    def test_the_codec_mapping_cannot_be_changed(self) -> None:
        with pytest.raises(TypeError):
            Registry.load().codecs["mine"] = None  # type: ignore[index]


def virtual(answer: str, options: str = "") -> str:
    return plugin(body=f"@hookimpl{options}\ndef vcframe_virtual_codec(codec):\n    {answer}")


class TestOtherHooks:
    def test_no_virtual_codec_means_the_learner_s_own(self) -> None:
        registry = Registry.load()
        assert registry.virtual_codec(registry.codec("webp")) is None

    def test_the_first_virtual_codec_that_is_not_none_wins(self, install: Installer) -> None:
        install("a", {"a": "virtual_a"}, virtual_a=virtual("return None"))
        install("b", {"b": "virtual_b"}, virtual_b=virtual("return ('b', codec.name)"))
        install("c", {"c": "virtual_c"}, virtual_c=virtual("raise AssertionError('must not be asked')"))
        registry = Registry.load()
        assert registry.virtual_codec(registry.codec("webp")) == ("b", "webp")

    def test_tryfirst_and_trylast_hold_across_plugins(self, install: Installer) -> None:
        install("a", {"a": "virtual_a"}, virtual_a=virtual("return 'a'", "(trylast=True)"))
        install("b", {"b": "virtual_b"}, virtual_b=virtual("return 'b'"))
        registry = Registry.load()
        assert registry.virtual_codec(registry.codec("webp")) == "b"
        install("c", {"c": "virtual_c"}, virtual_c=virtual("return 'c'", "(tryfirst=True)"))
        registry = Registry.load()
        assert registry.virtual_codec(registry.codec("webp")) == "c"

    def test_a_file_is_asked_before_installed_plugins(self, install: Installer, tmp_path: Path) -> None:
        install("a", {"a": "virtual_a"}, virtual_a=virtual("return 'a'"))
        (tmp_path / "zz.py").write_text(virtual("return 'file'"))
        registry = Registry.load(plugin_files=[tmp_path / "zz.py"])
        assert registry.virtual_codec(registry.codec("webp")) == "file"

    def test_a_raising_virtual_codec_is_reported_once_and_passed_over(
        self, install: Installer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install("a", {"a": "virtual_a"}, virtual_a=virtual("raise OSError('no weights')"))
        install("b", {"b": "virtual_b"}, virtual_b=virtual("return 'b'"))
        registry = Registry.load()
        codec = registry.codec("webp")
        assert registry.virtual_codec(codec) == "b"
        assert registry.virtual_codec(codec) == "b"
        (line,) = capfd.readouterr().err.splitlines()
        assert line == "vcframe: skipped plugin 'a' of a 1.5 (virtual_a): OSError: no weights"
        monkeypatch.setenv("VCFRAME_STRICT", "1")
        with pytest.raises(PluginError, match="no weights"):
            registry.virtual_codec(codec)

    def test_metrics_and_suites_are_gathered_from_every_plugin(self, install: Installer) -> None:
        body = """
        @hookimpl
        def vcframe_metrics(): return (Metric(name, "dB", "higher", lambda a, b: 0.5) for name in [__name__])

        @hookimpl
        def vcframe_suites(): return ["suite of %s" % __name__]
        """
        install("a", {"a": "metric_a"}, metric_a=plugin(body=body))
        install("b", {"b": "metric_b"}, metric_b=plugin(body=body))
        registry = Registry.load()
        for _ in range(2):
            assert [metric.name for metric in registry.metrics()] == ["metric_a", "metric_b"]
            assert registry.suites()[:2] == ("suite of metric_a", "suite of metric_b")

    def test_two_metrics_of_one_name_are_both_refused(self, install: Installer) -> None:
        body = "@hookimpl\ndef vcframe_metrics(): return [Metric('mine', '', 'lower', lambda a, b: 0.5)]"
        install("a", {"a": "metric_a"}, metric_a=plugin(body=body))
        install("b", {"b": "metric_b"}, metric_b=plugin(body=body))
        registry = Registry.load()
        assert registry.metrics() == ()
        reasons = {record.name: record.reason for record in registry.plugins if record.status == "failed"}
        assert reasons.keys() == {"a", "b"}
        assert "metric name 'mine' is claimed by a 1.5 (metric_a) and b 1.5 (metric_b)" in str(reasons["a"])


def test_a_plugin_may_offer_a_codec_class_from_elsewhere(tmp_path: Path, photo: Image) -> None:
    (tmp_path / "toys.py").write_text(
        "from conftest import ToyCodec\nfrom vcframe import hookimpl\n"
        "@hookimpl\ndef vcframe_codecs(): return [ToyCodec]\n"
    )
    codec: Codec = Registry.load(plugin_files=[tmp_path / "toys.py"]).codec("toy", level=1)
    assert codec.roundtrip(photo, 8)[0].tobytes() == photo.tobytes()
    with pytest.raises(CodecError):
        codec.decode(b"not a toy")

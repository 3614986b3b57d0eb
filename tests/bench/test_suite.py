"""Suites as data: what a file may say, which are found, what their plans hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from benchmark_suites import extended, suite_file
from conftest import Installer
from plugin_sources import plugin

from vcframe import UsageError
from vcframe.bench.suite import Suite, find_suite, list_suites
from vcframe.registry import Registry

__all__ = ["suite_file"]


class TestFiles:
    def test_the_name_is_the_file_s(self, suite_file: Path) -> None:
        suite = Suite.load(suite_file)
        assert (suite.name, suite.title, suite.methods) == (
            "own",
            "A suite of one's own",
            ("plain", "vcframe"),
        )

    def test_the_digest_is_of_what_it_says_and_not_of_where_it_is(self, suite_file: Path) -> None:
        suite = Suite.load(suite_file)
        moved = suite_file.parent / "elsewhere" / "own.toml"
        moved.parent.mkdir()
        moved.write_text("# a comment\n" + suite_file.read_text())
        assert Suite.load(moved).digest == suite.digest
        assert extended(moved, "repeats = 2\n").digest != suite.digest
        content = json.dumps(suite.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(content.encode()).hexdigest() == suite.digest

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ("repeats = 0", "repeats: Input should be greater than or equal to 1"),
            ("qualities = [0.5, 1.5]", r"qualities\.1: Input should be less than or equal to 1"),
            ("colour = true", "colour: Extra inputs are not permitted"),
            ("name = 'other'", "not a suite file"),
            ("methods = ", "not a suite file: Invalid value"),
        ],
    )
    def test_a_fault_is_one_line_with_the_file(self, suite_file: Path, line: str, fault: str) -> None:
        with pytest.raises(UsageError, match=f"^suite {suite_file}: .*{fault}") as caught:
            extended(suite_file, line)
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"suite .*none.toml: cannot be read: No such file"):
            find_suite(str(tmp_path / "none.toml"), Registry.load())


class TestFinding:
    def test_the_first_party_suites_come_through_the_hook(self) -> None:
        names = [suite.name for suite in list_suites(Registry.load())]
        assert names == ["kodak", "lowrate", "paper", "quick", "robust", "speed"]
        with pytest.raises(
            UsageError, match=r"unknown suite 'kodack'; did you mean 'kodak'\?; installed: .*quick"
        ):
            find_suite("kodack", Registry.load())

    def test_a_plugin_s_suite_is_found_and_a_broken_one_skipped(
        self, install: Installer, suite_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "broken.toml"
        broken.write_text("title = 3")
        body = f"@hookimpl\ndef vcframe_suites(): return [{str(suite_file)!r}, {str(broken)!r}]"
        install("theirs", {"theirs": "theirs"}, theirs=plugin(body=body))
        registry = Registry.load()
        assert find_suite("own", registry) == Suite.load(suite_file)
        assert "broken" not in [suite.name for suite in list_suites(registry)]
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"vcframe: skipped suite {broken}: ")

    def test_two_suites_of_one_name_are_refused(self, install: Installer, tmp_path: Path) -> None:
        for name in ("x", "y"):
            (tmp_path / name).mkdir()
            path = tmp_path / name / "twin.toml"
            path.write_text('title = "t"\nimages = [{ set = "embedded" }]')
            body = f"@hookimpl\ndef vcframe_suites(): return [{str(path)!r}]"
            install(name, {name: f"twin_{name}"}, **{f"twin_{name}": plugin(body=body)})
        with pytest.raises(UsageError, match="2 plugins have a suite 'twin'"):
            find_suite("twin", Registry.load())

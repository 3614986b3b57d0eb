"""`vcframe check` and `vcframe plugins new`; `test_clean_install.py` puts to use what it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command_line import ok, refused, run

import vcframe
from vcframe.cli.authoring import TEMPLATE_FILES
from vcframe.testing import Check, Outcome

ROOT = Path(vcframe.__file__).parents[1]
EXAMPLE = ROOT / "plugins" / "example"
PLUGIN = EXAMPLE / "vcframe_example.py"


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestCheck:
    def test_every_promise_is_listed(self) -> None:
        outcomes = json.loads(ok("--plugin", PLUGIN, "check", "example", "--json").stdout)
        assert len(outcomes) == 26
        assert {outcome["status"] for outcome in outcomes} == {"passed"}

    def test_a_failure_is_told_and_ends_with_1(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def outcome(check: Check) -> Outcome:
            failed = check.name == "grey"
            return Outcome(
                check.name, check.promise, *(("failed", "[3] planes") if failed else ("passed", None))
            )

        monkeypatch.setattr(Check, "outcome", outcome)
        result = run("check", "webp", "--option", "method=3")
        assert result.exit_code == 1
        assert "-> [3] planes" in result.stdout
        assert "vcframe: error: 1 of 26 checks of webp failed: grey" in result.stderr

    def test_golden_files_are_written_once_and_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vcframe.testing.kit.CHECKS", ())
        folder = tmp_path / "golden"
        assert "checks" not in refused("check", "webp", "--golden", folder)
        ok("check", "webp", "--write-golden", folder)
        assert "golden_files" in ok("check", "webp", "--golden", folder).stdout
        (folder / "colour-0.webp").write_bytes(b"RIFF")
        result = run("check", "webp", "--golden", folder)
        assert result.exit_code == 1
        assert "not a WebP file" in result.stdout

    def test_an_unknown_codec_is_refused(self) -> None:
        assert refused("check", "wepb").startswith("unknown codec 'wepb'; did you mean 'webp'?")


class TestNew:
    def test_the_example_is_what_it_writes(self, tmp_path: Path) -> None:
        text = ok("plugins", "new", "example", "--out", tmp_path / "new").stdout
        assert written(tmp_path / "new") == {name: (EXAMPLE / name).read_bytes() for name in TEMPLATE_FILES}
        assert f"vcframe --plugin {tmp_path / 'new' / 'vcframe_example.py'} check example" in text
        tracked = subprocess.run(
            ["git", "ls-files", "plugins/example"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split()
        assert not tracked or set(tracked) == {f"plugins/example/{name}" for name in TEMPLATE_FILES}

    def test_the_template_is_in_the_wheel(self) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        data = project["tool"]["setuptools"]["package-data"]["vcframe_plugins"]
        assert [name for name in data if name.startswith("example/")] == [
            f"example/{name}" for name in TEMPLATE_FILES
        ]

    def test_a_name_is_spelt_as_each_place_asks(self, tmp_path: Path) -> None:
        ok("plugins", "new", "my-example_2", "--out", tmp_path / "new")
        module = tmp_path / "new" / "vcframe_my_example_2.py"
        assert "class MyExample2Codec(Codec):" in module.read_text()
        assert 'my-example_2 = "vcframe_my_example_2"' in (tmp_path / "new" / "pyproject.toml").read_text()
        (row,) = [
            row
            for row in json.loads(ok("--plugin", module, "codecs", "--json").stdout)
            if row["codec"] == "my-example_2"
        ]
        assert row["extension"] == ".myexample2"

    def test_bad_names_and_existing_folders_are_refused(self, tmp_path: Path) -> None:
        assert refused("plugins", "new", "My.codec", "--out", tmp_path / "a").startswith(
            "'My.codec' cannot name"
        )
        assert "there is a codec 'webp' already" in refused("plugins", "new", "webp", "--out", tmp_path / "a")
        assert "exists; name a new folder" in refused("plugins", "new", "mine", "--out", tmp_path)
        assert "make it first" in refused("plugins", "new", "mine", "--out", tmp_path / "no" / "a")
        assert list(tmp_path.iterdir()) == []

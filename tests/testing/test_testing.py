"""The conformance kit against codecs broken on purpose: each fails the check meant for it, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_codecs import BROKEN, KnownToFail, TinyCodec

from vcframe import Codec, PluginError, UsageError
from vcframe.registry import Registry
from vcframe.testing import CheckFailed, codec_checks, isolation, kit, write_golden

IMPORTS_A_LIBRARY = "import PIL.Image\n"
IMPORTS_SLOWLY = "import time\nwhile time.process_time() < 2: pass\n"


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "1.0"
    write_golden(TinyCodec(), folder)
    return folder


def statuses(codec: Codec, golden: Path | None = None) -> dict[str, set[str]]:
    """The names of the checks by what they found."""
    outcomes = [check.outcome() for check in codec_checks(codec, golden)]
    assert all((outcome.reason is None) == (outcome.status == "passed") for outcome in outcomes)
    return {s: {o.name for o in outcomes if o.status == s} for s in ("passed", "failed", "known")}


def test_a_correct_codec_passes_every_check(golden: Path) -> None:
    found = statuses(TinyCodec(), golden)
    assert found["failed"] == set()
    assert found["passed"] == set(BROKEN) | {"imports_are_light"}


@pytest.mark.parametrize(
    ("name", "broken"), [(name, kind) for name, kinds in BROKEN.items() for kind in kinds]
)
def test_a_broken_codec_fails_the_check_meant_for_it_alone(
    name: str, broken: type[Codec], golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "TIME_LIMIT_S", 3.0)
    assert statuses(broken(), golden)["failed"] == {name}


@pytest.mark.parametrize(
    ("source", "reason"), [(IMPORTS_A_LIBRARY, "imports PIL at"), (IMPORTS_SLOWLY, "s of processor time")]
)
def test_a_heavy_module_fails_the_check_of_imports_alone(source: str, reason: str, tmp_path: Path) -> None:
    tiny = Path(__file__).with_name("broken_codecs.py").read_text()
    (tmp_path / "heavy.py").write_text(tiny.replace("import struct\n", f"import struct\n{source}", 1))
    outcomes = [c.outcome() for c in codec_checks(Registry.load([tmp_path / "heavy.py"]).codec("tiny"))]
    (failed,) = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert failed.name == "imports_are_light"
    assert reason in str(failed.reason)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("SleepsOnDamage", "did not return within 3 s"),
        ("AllocatesOnDamage", "decode ran out of memory"),
        ("CrashesOnDamage", "crashed with signal SIGABRT"),
        ("OtherShapeOnDamage", "returned uint8 (1, 1, 3) where probe says (64, "),
    ],
)
def test_what_damage_did_is_told(broken: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "TIME_LIMIT_S", 3.0)
    (codec,) = [kind() for kind in BROKEN["flipped_bits_contained"] if kind.__name__ == broken]
    (check,) = [check for check in codec_checks(codec) if check.name == "flipped_bits_contained"]
    assert reason in str(check.outcome().reason)


class TestKnownFailures:
    def test_a_declared_failure_is_told_with_its_reason(self, golden: Path) -> None:
        found = statuses(KnownToFail(), golden)
        assert (found["known"], found["failed"]) == ({"truncated_refused"}, set())
        (check,) = [check for check in codec_checks(KnownToFail()) if check.known]
        assert check.outcome().reason == "the format has no length"

    def test_one_that_passes_must_be_taken_out(self) -> None:
        (codec,) = [kind() for kind in BROKEN["truncated_refused"] if kind.known_failures]
        (check,) = [check for check in codec_checks(codec) if check.known]
        with pytest.raises(CheckFailed, match="passes: take 'truncated_refused' out of NoLongerFails"):
            check()

    def test_a_name_that_no_check_has_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TinyCodec, "known_failures", {"truncation": "?"})
        with pytest.raises(PluginError, match=r"no check: 'truncation'; checks: .*truncated_refused"):
            codec_checks(TinyCodec())


class TestGoldenFiles:
    def test_earlier_files_are_never_overwritten(self, golden: Path) -> None:
        with pytest.raises(UsageError, match="exists; name a new one"):
            write_golden(TinyCodec(), golden)

    def test_a_folder_without_them_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="holds no golden files"):
            codec_checks(TinyCodec(), tmp_path)


@pytest.mark.parametrize("check", codec_checks(TinyCodec())[:2])
def test_checks_are_cases_of_pytest(check: kit.Check, request: pytest.FixtureRequest) -> None:
    assert request.node.name.endswith(f"[{check.name}]")
    check()

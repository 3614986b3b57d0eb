"""The list of checks for a codec, and running one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from vcframe.codec import Codec, PluginError
from vcframe.testing import coding, files, rates
from vcframe.testing.failure import CheckFailed
from vcframe.testing.golden import find_golden, golden_files

CHECKS = (*coding.CHECKS, *rates.CHECKS, *files.CHECKS)


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    name: str
    promise: str
    status: Literal["passed", "failed", "known"]
    """`known` is a failure that the codec declares in `known_failures`."""
    reason: str | None
    """What is wrong, or why it is known to be; None for `passed`."""


@dataclass(frozen=True)
class Check:
    """One promise of one codec. Calling it returns where the promise is kept and raises where it is not.

    A failure that the codec declares in `known_failures` returns, and where the check passes nevertheless,
    `CheckFailed` is raised: the declaration is out of date.
    """

    name: str
    promise: str
    """What the codec promises, in one sentence."""
    codec: Codec
    verify: Callable[[Codec], None]
    """Raises `CheckFailed`, or whatever the codec raised."""

    @property
    def __name__(self) -> str:
        """By which pytest calls the case."""
        return self.name

    @property
    def known(self) -> str | None:
        """Why the codec is known to fail here; None where it must pass."""
        return self.codec.known_failures.get(self.name)

    def __call__(self) -> None:
        # An instance of its own: what one check leaves behind must not reach another.
        codec = type(self.codec)(max_pixels=self.codec.max_pixels, **self.codec.config()["options"])
        try:
            self.verify(codec)
        except Exception:
            if self.known is None:
                raise
        else:
            if self.known is not None:
                raise CheckFailed(f"passes: take {self.name!r} out of {type(codec).__name__}.known_failures")

    def outcome(self) -> Outcome:
        """Run the check and tell what it found, whatever the codec raises."""
        try:
            self()
        except Exception as error:
            text = " ".join(str(error).split())
            reason = text if isinstance(error, CheckFailed) else f"{type(error).__name__}: {text}"
            return Outcome(self.name, self.promise, "failed", reason)
        return Outcome(self.name, self.promise, "passed" if self.known is None else "known", self.known)


def codec_checks(codec: Codec, golden: Path | None = None) -> list[Check]:
    """Every check of `codec`, one case each for `pytest.mark.parametrize`.

    `golden` is a folder of files that `write_golden` made with an earlier release; they must still decode.
    Raises `UsageError` for a folder without such files, `PluginError` where `known_failures` names no check.
    """
    known_checks = {check.__name__ for check in CHECKS} | {golden_files.__name__}
    for name in sorted(codec.known_failures.keys() - known_checks):
        names = ", ".join(sorted(known_checks))
        raise PluginError(f"{type(codec).__name__}.known_failures names no check: {name!r}; checks: {names}")
    checks = [Check(check.__name__, _promise(check), codec, check) for check in CHECKS]
    if golden is not None:
        verify = partial(golden_files, pairs=find_golden(codec, golden))
        checks.append(Check(golden_files.__name__, _promise(golden_files), codec, verify))
    return checks


def _promise(check: Callable[..., None]) -> str:
    """The first sentence of a check's docstring."""
    return " ".join((check.__doc__ or "").split("\n\n")[0].split())

"""How a check says that a codec breaks its promise."""

from __future__ import annotations

from vcframe.codec import VcframeError


class CheckFailed(VcframeError):
    """A codec breaks a promise; the text says with which picture, quality and figures."""


def require(kept: bool, otherwise: str) -> None:
    """Raise `CheckFailed` with `otherwise` unless the promise was kept."""
    if not kept:
        raise CheckFailed(otherwise)

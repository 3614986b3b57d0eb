"""The simplest stand-in for a codec: what goes in comes out (straight-through), at one bit per pixel.

vcframe --plugin benchmarks/virtual_codecs/identity.py train --codec webp --out runs/straight-through
"""

from __future__ import annotations

from typing import Any

from vcframe import Codec, hookimpl


@hookimpl
def vcframe_virtual_codec(codec: Codec) -> Any:
    """The identity, for every codec: nothing in it is trained, and its bits have no slope."""
    from torch import Tensor, nn

    class Identity(nn.Module):
        def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
            # A sum of zeros ties the constant to the picture, so that it can be differentiated.
            return x_BCHW, (0 * x_BCHW[:, 0] + 1).sum((1, 2))

    return Identity()

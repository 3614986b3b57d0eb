"""ICC profiles that pictures come with, and their published conversions to sRGB."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np

from vcframe import Image

D65 = (0.3127, 0.3290)
PRIMARIES = {
    "sRGB": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    "Display P3": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    "Adobe RGB": (0.64, 0.33, 0.21, 0.71, 0.15, 0.06),
}
"""SMPTE EG 432-1 and Adobe RGB (1998): x and y of red, green and blue."""
LINEAR_TO_SRGB = {
    "Display P3": [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]],
    "Adobe RGB": [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]],
}
"""As published, between linear samples."""


def rgb_profile(name: str, white: tuple[float, float] = D65, **curve: Any) -> bytes:
    """A matrix profile; `curve` is `gamma` or `transferfunction`."""
    x = iter(PRIMARIES[name])
    primaries = [value for pair in zip(x, x, strict=True) for value in (*pair, 1.0)]
    profile: bytes = imagecodecs.cms_profile("rgb", whitepoint=[*white, 1.0], primaries=primaries, **curve)
    return profile


def grey_profile(gamma: float) -> bytes:
    profile: bytes = imagecodecs.cms_profile("gray", gamma=gamma)
    return profile


def to_srgb(samples: Image, name: str, gamma: float) -> np.ndarray[Any, Any]:
    """By the published matrix: levels 0..255, not rounded."""
    return srgb_levels((samples / 255.0) ** gamma @ np.array(LINEAR_TO_SRGB[name]).T)


def srgb_levels(linear: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Levels 0..255 of linear light, IEC 61966-2-1, not rounded."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_curve(num_entries: int) -> np.ndarray[Any, Any]:
    """Linear light of evenly spaced sRGB samples, as profiles in circulation tabulate it."""
    v = np.linspace(0, 1, num_entries)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def cmyk_profile() -> bytes:
    """A print profile: the Lab colour of every overprint of four inks, linear between (ICC.1, `mft1`)."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(16, 4)
    c, m, y, k = corners.T
    lab = [
        255 * (1 - 0.45 * c) * (1 - 0.5 * m) * (1 - 0.1 * y) * (1 - 0.9 * k),
        128 + (-35 * c + 70 * m - 5 * y) * (1 - k),
        128 + (-50 * c - 5 * m + 85 * y) * (1 - k),
    ]
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel().tolist())
    table = np.stack(lab, -1).round().astype(np.uint8).tobytes()
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * ramp + table + 3 * ramp
    d50 = (63190, 65536, 54061)
    size = 128 + 16 + len(lut)
    names = b"prtr", b"CMYK", b"Lab ", b"", b"acsp"
    header = struct.pack(">I4sI4s4s4s12s4s28x3i48x", size, b"", 0x02400000, *names, *d50)
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut

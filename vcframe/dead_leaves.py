"""Procedural training pictures: dead leaves, occluding textured shapes with power-law sizes.

The occlusion model of natural images of Lee, Mumford and Huang (IJCV 41, 2001). A picture is a function of
its seed alone, so a run can be resumed and a held-out part stays the same. Outside `learning`, so that the
worker processes that draw them start without torch.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vcframe.codec import Image

SIDE = 384
"""Default side in pixels."""

_Plane = npt.NDArray[np.float32]


def dead_leaves(seed: int, side: int = SIDE) -> Image:
    """One `(side, side, 3)` picture; drawn at twice the size and reduced, so that edges are antialiased."""
    rng = np.random.default_rng([0xDEAD, seed])
    canvas_side = 2 * side
    canvas = np.full((canvas_side, canvas_side, 3), rng.integers(40, 220), np.float32)
    palette = _palette(rng)
    for radius in _radii(rng, canvas_side):
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 12, 3), 0, 255)
        _paint_leaf(canvas, rng, radius, colour)
    if rng.random() < 0.8:  # optics: most photographs are a little soft
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.2)).astype(np.float32)
    small = cv2.resize(np.clip(canvas, 0, 255), (side, side), interpolation=cv2.INTER_AREA)
    noisy = small + rng.normal(0, rng.uniform(0, 2), small.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _palette(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A few base colours: broad luminance, chroma of random strength."""
    num_colours = int(rng.integers(3, 10))
    luminance = rng.beta(1.2, 1.4, num_colours) * 255
    chroma = rng.normal(0, rng.uniform(3, 25), (num_colours, 3))
    return np.asarray(np.clip(luminance[:, None] + chroma - chroma.mean(1, keepdims=True), 0, 255))


def _radii(rng: np.random.Generator, canvas_side: int) -> list[float]:
    """Power-law sizes, roughly the largest first so that small leaves stay visible."""
    smallest, largest, count = 3.0, canvas_side * 0.5, int(rng.integers(150, 700))
    exponent, uniform = rng.uniform(0.6, 1.4), rng.random(count)
    powers = smallest**-exponent * (1 - uniform) + largest**-exponent * uniform
    radii = powers ** (-1 / exponent)
    order = np.argsort(-radii * rng.lognormal(0, 0.7, count))
    return [float(r) for r in radii[order]]


def _paint_leaf(
    canvas: _Plane, rng: np.random.Generator, radius: float, colour: npt.NDArray[np.float64]
) -> None:
    side = canvas.shape[0]
    x, y = rng.uniform(-0.1 * side, 1.1 * side, 2)
    reach = 1.6 * radius + 2
    left, right = int(max(x - reach, 0)), int(min(x + reach, side))
    top, bottom = int(max(y - reach, 0)), int(min(y + reach, side))
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    _draw_shape(mask, rng, (int(x - left), int(y - top)), radius)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    texture = _texture(rng, mask.shape[0], mask.shape[1], radius)
    leaf = (colour[None, None, :] + np.clip(texture, -80, 80)[..., None]).astype(np.float32)
    region = canvas[top:bottom, left:right]
    region += (leaf - region) * alpha


def _draw_shape(
    mask: npt.NDArray[np.uint8], rng: np.random.Generator, centre: tuple[int, int], radius: float
) -> None:
    if rng.random() < 0.4:
        axes = (max(int(radius * rng.uniform(0.3, 1.5)), 1), max(int(radius), 1))
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, (255,), -1, cv2.LINE_AA)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    spokes = radius * rng.uniform(0.5, 1.5, (2, len(angles)))
    corners = np.stack([centre[0] + spokes[0] * np.cos(angles), centre[1] + spokes[1] * np.sin(angles)], 1)
    cv2.fillPoly(mask, [corners.astype(np.int32)], (255,), cv2.LINE_AA)


def _texture(rng: np.random.Generator, height: int, width: int, radius: float) -> _Plane:
    """A shading ramp, with stripes or filtered noise on most leaves."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.normal(0, 40 / max(radius, 8), 2)
    texture = slope[0] * (xs - width / 2) + slope[1] * (ys - height / 2)
    kind = rng.random()
    if kind < 0.25 and radius > 6:
        frequency, angle = rng.uniform(0.1, 1.2), rng.uniform(0, np.pi)
        phase = frequency * (xs * np.cos(angle) + ys * np.sin(angle))
        texture = texture + rng.uniform(4, 40) * np.sin(phase)
    elif kind < 0.7 and radius > 4:
        noise = rng.standard_normal((height, width), dtype=np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 4)).astype(np.float32)
        texture = texture + noise / (noise.std() + 1e-6) * rng.uniform(3, 30)
    return np.asarray(texture, np.float32)

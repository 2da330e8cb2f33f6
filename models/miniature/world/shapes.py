"""Flat shapes from which the drawn products are made.

Coordinates are a product's own: a box of about [-1, 1] in x and y, y pointing down. Every shape is a closed polygon,
so that a product's bounds are known before it is drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
RGB = tuple[int, int, int]
Field = NDArray[np.floating[Any]]  # brightness, cover or colours, pixel by pixel; float32 wherever it is large
Paint = float | RGB  # a tone of the product's colour (0 as it is, below 0 darker, above 0 lighter), or a fixed colour

METAL: RGB = (178, 183, 190)
STEEL: RGB = (206, 211, 217)
DARK: RGB = (56, 56, 62)
PAPER: RGB = (247, 245, 238)


@dataclass(frozen=True)
class DrawnShape:
    """A filled polygon with a thin darker edge."""

    points: tuple[Point, ...]
    paint: Paint = 0.0

    @property
    def is_surface(self) -> bool:
        """Whether the product's material and pattern show here; dark insides and fixed colours stay plain."""
        return isinstance(self.paint, float) and abs(self.paint) <= 0.3


def toned(colour: RGB, tone: float) -> RGB:
    """Darken (`tone` < 0) or lighten (`tone` > 0) a colour; -1 is black, 1 white.

    Black can't be darkened and white can't be lightened, so there the tone goes the other way: details stay visible.
    """
    luma = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    if luma < 60 and tone < 0:
        tone = -0.6 * tone
    elif luma > 225 and tone > 0:
        tone = -0.5 * tone
    end = 255 if tone > 0 else 0
    red, green, blue = (round(channel + (end - channel) * abs(tone)) for channel in colour)
    return red, green, blue


def polygon(points: Sequence[Point], paint: Paint = 0.0) -> DrawnShape:
    return DrawnShape(tuple(points), paint)


def symmetric(right: Sequence[Point], paint: Paint = 0.0) -> DrawnShape:
    """Return a polygon from its right half, listed top to bottom."""
    return DrawnShape((*right, *((-x, y) for x, y in reversed(right))), paint)


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> list[Point]:
    """Points along an ellipse; angles in degrees, clockwise from the right."""
    steps = max(6, round(abs(stop - start) / 9))
    angles = [math.radians(start + (stop - start) * step / steps) for step in range(steps + 1)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def ellipse(x: float, y: float, rx: float, ry: float, paint: Paint = 0.0) -> DrawnShape:
    return DrawnShape(tuple(arc(x, y, rx, ry)), paint)


def segment(x: float, y: float, rx: float, ry: float, start: float, stop: float, paint: Paint = 0.0) -> DrawnShape:
    """Return the part of an ellipse between two angles, closed by a chord."""
    return DrawnShape(tuple(arc(x, y, rx, ry, start, stop)), paint)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.04, paint: Paint = 0.0) -> DrawnShape:
    """Return a rectangle with rounded corners."""
    corners = (
        (right - radius, top + radius, -90),
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
    )
    points: list[Point] = []
    for x, y, start in corners:
        points += arc(x, y, radius, radius, start, start + 90)
    return DrawnShape(tuple(points), paint)


def smooth(points: Sequence[Point], *, closed: bool = True, steps: int = 6) -> list[Point]:
    """Points along a Catmull-Rom curve through `points`."""
    knots = np.asarray(points, np.float64)
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    knots = np.concatenate([before, knots, after])
    a, b, c, d = (knots[i : len(knots) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3)
    path = [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]
    return path if closed else [*path, points[-1]]


def line(points: Sequence[Point], width: float, paint: Paint = 0.0) -> DrawnShape:
    """Return an open line of a constant width, as the polygon around it."""
    path = np.asarray(points, np.float64)
    steps = np.diff(path, axis=0)
    steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    mitre = before + after
    # A mitre grows without limit at a sharp corner: cut it off at twice the width.
    mitre /= np.maximum((mitre * mitre).sum(axis=1, keepdims=True) / 2, 0.5)
    sides = np.concatenate([path + mitre * width / 2, (path - mitre * width / 2)[::-1]])
    return DrawnShape(tuple((float(x), float(y)) for x, y in sides), paint)

"""Where an edit put the product: how far it was moved and by how much it was zoomed.

    found = register(frame, mask)       # Registration(zoom=1.02, shift=(3.1, -0.4), likeness=0.93)
    straight = aligned(frame, found)    # the result, with its product where the source has it

Edits shift and zoom by pixels even where nobody asked for it. Outlines are matched, whatever their colours and
whichever of their sides is brighter, so that another background or colour doesn't disturb it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from safety.fidelity.frames import Frame, resized
from safety.pictures.channels import total

# The constants below decide measures: count `safety.fidelity.measuring.METHOD` up when one changes.
COARSE, FINE = 96, 256  # pixels of the shorter side at which a product is searched for, and then placed exactly
FARTHEST = 0.2  # of the shorter side: how far a product is looked for from where it was
ZOOMS = np.geomspace(0.78, 1.28, 15)  # how much smaller or larger it is looked for
FINE_ZOOMS = np.linspace(-0.02, 0.02, 5)
FINE_REACH = 4  # pixels
FAINT = 24.0  # of 255: an outline of this contrast counts half as much as the strongest
RIM = 3  # pixels around the mask, which show the product's outline
STILL = 0.01  # a place that fits better by less is the same place, only noisier


@dataclass(frozen=True)
class Registration:
    """What maps the product from a source to a result, about the middle of its box."""

    zoom: float  # times as large
    shift: tuple[float, float]  # of the box's middle, in pixels of the frame, to the right and down
    middle: tuple[float, float]  # of the box, x and y in the source
    likeness: float  # correlation of the outlines there, at most 1

    def matrix(self) -> np.ndarray:
        """Return the affine map from the source's pixels to the result's: float64 [2, 3]."""
        (x, y), (across, down) = self.middle, self.shift
        return np.array([[self.zoom, 0, x + across - self.zoom * x], [0, self.zoom, y + down - self.zoom * y]])


def register(frame: Frame, mask: np.ndarray) -> Registration:
    """Find a source's product in the result.

    Args:
        frame: both pictures.
        mask: bool [H, W], where the product is; some of it is.
    """
    coarse, fine = (min(1.0, side / frame.side) for side in (COARSE, FINE))
    here = _Search.at(frame, mask, coarse)
    still = here.best(1.0, (0.0, 0.0), reach=1)
    found = max((here.best(zoom, (0.0, 0.0), reach=round(FARTHEST * frame.side * coarse)) for zoom in ZOOMS), key=_fit)
    if found.likeness < still.likeness + STILL:
        found = still
    there = _Search.at(frame, mask, fine)
    start = (found.shift[0] * fine / coarse, found.shift[1] * fine / coarse)
    tried = [there.best(found.zoom + step, start, reach=FINE_REACH) for step in FINE_ZOOMS]
    at = int(np.argmax([each.likeness for each in tried]))
    zoom = tried[at].zoom
    if 0 < at < len(tried) - 1:
        before, top, after = (each.likeness for each in tried[at - 1 : at + 2])
        zoom += float(FINE_ZOOMS[1] - FINE_ZOOMS[0]) * _vertex(before, top, after)
    exact = there.best(zoom, start, reach=FINE_REACH)
    unmoved = there.best(1.0, (0.0, 0.0), reach=1)
    if exact.likeness < unmoved.likeness + STILL / 4:
        exact = unmoved
    x, y = there.middle
    return Registration(
        exact.zoom,
        (exact.shift[0] / fine, exact.shift[1] / fine),
        ((x + 0.5) / fine - 0.5, (y + 0.5) / fine - 0.5),
        exact.likeness,
    )


def aligned(frame: Frame, found: Registration) -> np.ndarray:
    """Return the result with its product where the source has it: uint8 [H, W, 3]."""
    return np.asarray(
        cv2.warpAffine(
            frame.result,
            found.matrix(),
            frame.size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def outlines(pixels: np.ndarray) -> np.ndarray:
    """Return how much of an outline each pixel shows, whatever its contrast: float32 [H, W], 0 to 1.

    Args:
        pixels: uint8 [H, W, 3].
    """
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.0).astype(np.float32)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    strength = np.sqrt(total(across * across + down * down))
    shown: np.ndarray = strength / (strength + FAINT)
    return shown


@dataclass(frozen=True)
class _Place:
    zoom: float
    shift: tuple[float, float]
    likeness: float


def _fit(place: _Place) -> float:
    return place.likeness


@dataclass(frozen=True)
class _Search:
    """A product's outlines, and those of the result in which they are looked for, at one scale."""

    product: np.ndarray  # float32 [h, w]: outlines in the product's box
    weight: np.ndarray  # float32 [h, w]: 1 on the product and its rim
    result: np.ndarray  # float32 [H, W]
    corner: tuple[int, int]  # of the box, x and y

    @classmethod
    def at(cls, frame: Frame, mask: np.ndarray, scale: float) -> _Search:
        size = (max(1, round(frame.size[0] * scale)), max(1, round(frame.size[1] * scale)))
        before, after = (outlines(resized(picture, size)) for picture in (frame.source, frame.result))
        small = resized(mask.astype(np.uint8) * 255, size) >= 64
        wide = cv2.dilate(small.astype(np.uint8), np.ones((RIM, RIM), np.uint8))
        rows, columns = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cls(before[box], wide[box].astype(np.float32), after, (int(columns[0]), int(rows[0])))

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the product's box."""
        height, width = self.product.shape
        return self.corner[0] + (width - 1) / 2, self.corner[1] + (height - 1) / 2

    def best(self, zoom: float, shift: tuple[float, float], *, reach: int) -> _Place:
        """Return where the product, so much larger, fits best around a place, by at most `reach` pixels from it."""
        height, width = self.product.shape
        size = (max(3, math.ceil(width * zoom)), max(3, math.ceil(height * zoom)))
        product, weight = (_zoomed(each, zoom, size) for each in (self.product, self.weight))
        (x, y), (across, down) = self.middle, shift
        left, top = (round(x + across - (size[0] - 1) / 2), round(y + down - (size[1] - 1) / 2))
        window = _window(self.result, left - reach, top - reach, size[0] + 2 * reach, size[1] + 2 * reach)
        scores = cv2.matchTemplate(window, product, cv2.TM_CCOEFF_NORMED, mask=(weight > 0.5).astype(np.float32))
        scores = np.nan_to_num(scores, nan=-1.0, posinf=-1.0, neginf=-1.0).clip(-1, 1)
        row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
        off_x, off_y = _beside(scores[row], int(column)), _beside(scores[:, column], int(row))
        found = (
            left - reach + column + off_x + (size[0] - 1) / 2 - x,
            top - reach + row + off_y + (size[1] - 1) / 2 - y,
        )
        return _Place(zoom, found, float(scores[row, column]))


def _zoomed(picture: np.ndarray, zoom: float, size: tuple[int, int]) -> np.ndarray:
    """Return a picture, [H, W], so much larger about its middle, in the middle of another size; 0 beside it."""
    height, width = picture.shape
    across, down = ((side - 1) / 2 - (now - 1) / 2 / zoom for side, now in ((width, size[0]), (height, size[1])))
    back = np.array([[1 / zoom, 0, across], [0, 1 / zoom, down]])
    return np.asarray(cv2.warpAffine(picture, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _window(picture: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """Return a part of a picture, [H, W], that may reach over its edges, where the edge goes on."""
    rows = np.clip(np.arange(top, top + height), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(left, left + width), 0, picture.shape[1] - 1)
    return np.ascontiguousarray(picture[rows[:, None], columns[None, :]])


def _beside(line: np.ndarray, at: int) -> float:
    """Return how far beside its highest place a line's top lies: -0.5 to 0.5."""
    if not 0 < at < len(line) - 1:
        return 0.0
    return _vertex(float(line[at - 1]), float(line[at]), float(line[at + 1]))


def _vertex(before: float, top: float, after: float) -> float:
    """Return where the parabola through three points has its top, in steps from the middle one: -0.5 to 0.5."""
    bend = before - 2 * top + after
    return 0.0 if bend >= 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))

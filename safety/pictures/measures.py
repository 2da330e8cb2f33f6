"""What can be measured of a picture's pixels: its background, the product's box, and how sharp its edges are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safety.pictures.channels import highest, lowest

# The constants below decide verdicts: count `safety.pictures.profile.METHOD` up when one changes.
BAND = 0.02  # of the shorter side: the border band that shows the background
SHADOW = 96  # of 255: how much darker than the background a soft shadow may be
NEUTRAL = 14  # of 255: a shadow has the background's hue within this
STANDS_OUT = 20  # of 255: a product differs from the background by more
SPECKS = 0.004  # of a row or column: fewer product pixels than this are noise
REACH = 24  # pixels over which an edge may rise, on either axis
CONTRAST = 0.5  # of the largest rise in the picture: smaller ones are shading and texture
SHARPEST = 10  # percentile of the widths of edges: a product has soft shadows beside its outlines
FEWEST = 16  # edges: of less nothing is said
LEAST_RISE = 24  # of 255: where nothing rises further there are no edges


def expect_rgb(pixels: np.ndarray) -> None:
    """Refuse anything but uint8 [H, W, 3].

    Raises:
        ValueError: for any other kind of array.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"A picture is uint8 [H, W, 3]; this is {pixels.dtype} {list(pixels.shape)}.")


@dataclass(frozen=True)
class Ground:
    """The background as the border band shows it."""

    colour: tuple[int, int, int]
    share: float  # of the band that has this colour


def measure_background(pixels: np.ndarray, *, white: bool, tolerance: int, shadows: bool = True) -> Ground:
    """Measure how much of the picture's border band is white, or one plain colour (its median).

    The top edge and the upper three quarters of the sides are taken strictly. Products stand on the ground, so with
    `shadows` a soft one in the lower quarter also counts as background: darker by at most `SHADOW`, but of the same
    hue.

    Args:
        pixels: uint8 [H, W, 3].
        white: the background is (255, 255, 255), and not what the band shows.
        tolerance: of 255, in each channel.
    """
    height, width = pixels.shape[:2]
    band = max(1, round(BAND * min(height, width)))
    lower = height - max(band, height // 4)
    strict = np.concatenate(
        [
            pixels[:band].reshape(-1, 3),
            pixels[band:lower, :band].reshape(-1, 3),
            pixels[band:lower, -band:].reshape(-1, 3),
        ]
    ).astype(np.int16)
    lenient = np.concatenate(
        [
            pixels[lower:-band, :band].reshape(-1, 3),
            pixels[lower:-band, -band:].reshape(-1, 3),
            pixels[-band:].reshape(-1, 3),
        ]
    ).astype(np.int16)
    colour = np.full(3, 255) if white else np.median(strict, axis=0).astype(np.int16)
    darker = colour - lenient  # [N, 3]
    ground = highest(np.abs(darker)) <= tolerance
    if shadows:
        least, most = lowest(darker), highest(darker)
        ground |= (least >= -tolerance) & (most <= SHADOW) & (most - least <= NEUTRAL)
    fits = np.concatenate([highest(np.abs(strict - colour)) <= tolerance, ground])
    red, green, blue = map(int, colour)
    return Ground(colour=(red, green, blue), share=float(fits.mean()))


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture, in pixels: from `left` and `top` up to, and without, `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    def share_of(self, width: int, height: int) -> float:
        """Return how much of the frame it fills: its side over the frame's, for the larger of the two.

        By sides and not by area, because an upright umbrella fills its frame, too.
        """
        return max((self.right - self.left) / width, (self.bottom - self.top) / height)

    def __str__(self) -> str:
        return f"{self.left}, {self.top} to {self.right}, {self.bottom}"


def product_box(pixels: np.ndarray, colour: tuple[int, int, int]) -> Box | None:
    """Return the box of every row and column in which more than specks differ from the background `colour`.

    None when nothing stands out.
    """
    differs = highest(np.abs(pixels.astype(np.int16) - np.array(colour, dtype=np.int16))) > STANDS_OUT  # [H, W]
    columns, rows = (np.flatnonzero(differs.mean(axis=axis) > SPECKS) for axis in (0, 1))
    if not columns.size or not rows.size:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def edge_width(pixels: np.ndarray) -> float | None:
    """Return how wide the picture's sharpest edges are, in pixels: 1 is a step from one pixel to the next.

    The width of an edge is its rise over `REACH` pixels divided by its steepest step: what a straight ramp would take.
    Of all edges that rise at least `CONTRAST` of the highest one, along rows and columns, the `SHARPEST` percentile
    counts, so a soft shadow or a blurred background says nothing against a sharp product, and a picture that was
    enlarged has wide edges everywhere. None where too little rises to tell.

    Args:
        pixels: uint8 [H, W, 3].
    """
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # [H, W], BT.601
    found = [_edges(grey), _edges(grey.T)]
    rises = np.concatenate([rise for rise, _ in found])
    if not rises.size or (highest := float(rises.max())) < LEAST_RISE:
        return None
    widths = np.concatenate([rise / step for rise, step in found])[rises >= CONTRAST * highest]
    return float(np.percentile(widths, SHARPEST)) if widths.size >= FEWEST else None


def _edges(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rise of every monotone stretch of every row of `grey` [H, W], and its steepest step: two arrays of N.

    A stretch longer than `REACH` is shading, and left out.
    """
    steps = np.diff(grey, axis=1)
    if not steps.size:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    sign = np.sign(steps).astype(np.int8)
    starts = np.ones(sign.shape, bool)  # of stretches; a row always starts one
    starts[:, 1:] = sign[:, 1:] != sign[:, :-1]
    begin = np.flatnonzero(starts)
    rise = np.abs(np.add.reduceat(steps.ravel(), begin))
    step = np.maximum.reduceat(np.abs(steps.ravel()), begin)
    length = np.diff(np.append(begin, steps.size))
    real = (rise > LEAST_RISE) & (length <= REACH)
    return rise[real], step[real]

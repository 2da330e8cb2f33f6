"""Fixes that lose nothing of a picture: a nearly white background made white, and a frame made square.

Each gives back the picture as it was where there is nothing to fix.
"""

from __future__ import annotations

import numpy as np

from safety.pictures.channels import highest, lowest
from safety.pictures.measures import SHADOW, expect_rgb, measure_background

# The constants below decide pixels that are stored under a key: count `METHOD` up when one changes.
METHOD = 1
NEAR = 16  # of 255: a background darker than white by at most this becomes white; up to twice this, a little lighter
STEP = 10  # of 255, from a pixel to its neighbour: backgrounds ripple by up to 6, the faintest outline is above 8
WHITE_BORDER = 0.5  # of the border has to be nearly white, or there is no white background to snap
PLAIN_BORDER = 0.97  # of the border band has to have one colour, or padding would show
TOLERANCE = 8  # of 255: what still is that colour
RIPPLE = 3  # of 255: a background that changes by less along an edge has no gradient
FADE = 1 / 12  # of the picture's longer side: over this, padding fades from a shadow at the edge to the background


def snap_white(pixels: np.ndarray) -> np.ndarray:
    """Make a nearly white background exactly white, and leave the product and its shadow as they are.

    Background is what is reached from the border through pixels that are nearly white and smooth: an outline stops it,
    however faint, so a white product keeps its shading, and so does what it encloses. Between `NEAR` and twice that
    below white, tones are stretched, so a shadow that fades into the background has no rim where it ends.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        The same array where nothing is changed.
    """
    expect_rgb(pixels)
    below = 255 - lowest(pixels).astype(np.int16)  # [H, W]: how far the darkest channel is from white
    border = np.concatenate([below[0], below[-1], below[:, 0], below[:, -1]])
    if (border <= NEAR).mean() < WHITE_BORDER:
        return pixels
    light = below < 2 * NEAR
    ground = _grown(_reached(light & ~_stepped(pixels))) & light
    kept = np.where(below <= NEAR, 0, 2 * (below - NEAR)) / np.maximum(below, 1)  # of the distance from white
    lighter = (255.5 - (255 - pixels.astype(np.float32)) * kept[..., None].astype(np.float32)).astype(np.uint8)
    snapped: np.ndarray = np.where(ground[..., None], lighter, pixels)
    return pixels if np.array_equal(snapped, pixels) else snapped


def pad_square(pixels: np.ndarray) -> np.ndarray:
    """Make the frame square by adding background on both of the shorter sides; nothing is cut or scaled.

    Only where the border shows one plain colour: padding would be seen on any other. A shadow that reaches the edge
    fades out in it.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        The same array where nothing is changed.
    """
    expect_rgb(pixels)
    height, width = pixels.shape[:2]
    ground = measure_background(pixels, white=False, tolerance=TOLERANCE)
    if height == width or ground.share < PLAIN_BORDER:
        return pixels
    if height < width:
        return np.ascontiguousarray(pad_square(pixels.transpose(1, 0, 2)).transpose(1, 0, 2))
    colour = np.array(ground.colour, np.uint8)
    missing = height - width
    left = missing // 2
    square = np.empty((height, height, 3), np.uint8)
    square[:, left : left + width] = pixels
    square[:, :left] = _padding(pixels[:, 0], colour, left)[:, ::-1]
    square[:, left + width :] = _padding(pixels[:, -1], colour, missing - left)
    return square


def _padding(edge: np.ndarray, colour: np.ndarray, width: int) -> np.ndarray:
    """Return what follows an edge, [H, 3], outwards: fading shadows, and the background; uint8 [H, width, 3]."""
    darker = colour.astype(np.int16) - edge.astype(np.int16)
    is_shadow = ((darker >= -TOLERANCE) & (darker <= SHADOW)).all(axis=1, keepdims=True)
    ground = _ground_along(edge, colour)
    start = np.where(is_shadow, edge, ground)
    rest = 1 - np.minimum((1 + np.arange(width)) / max(1.0, FADE * len(edge)), 1.0)
    rest = (rest * rest * (3 - 2 * rest))[None, :, None]  # smooth at both ends
    padding: np.ndarray = (start[:, None] * rest + ground[:, None] * (1 - rest) + 0.5).astype(np.uint8)
    return padding


def _ground_along(edge: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return the background beside an edge, [H, 3]: its one colour, or the gradient along the edge."""
    place = np.linspace(-1, 1, len(edge))
    is_ground = (np.abs(edge.astype(np.int16) - colour) <= 2 * TOLERANCE).all(axis=1)
    if is_ground.mean() < 0.5:
        return np.broadcast_to(colour, edge.shape).astype(np.float64)
    if np.ptp(np.percentile(edge[is_ground], (5, 95), axis=0), axis=0).max() <= RIPPLE:
        return np.broadcast_to(np.median(edge[is_ground], axis=0), edge.shape)
    fitted = np.polynomial.polynomial.polyfit(place[is_ground], edge[is_ground].astype(np.float64), 2)
    return np.clip(np.polynomial.polynomial.polyval(place, fitted).T, 0, 255)


def _stepped(pixels: np.ndarray) -> np.ndarray:
    """Return where a pixel differs from the next one to the right or below by more than `STEP`, both: bool [H, W]."""
    values = pixels.astype(np.int16)
    stepped = np.zeros(pixels.shape[:2], bool)
    across = highest(np.abs(np.diff(values, axis=1))) > STEP
    down = highest(np.abs(np.diff(values, axis=0))) > STEP
    stepped[:, 1:] |= across
    stepped[:, :-1] |= across
    stepped[1:] |= down
    stepped[:-1] |= down
    return stepped


def _reached(free: np.ndarray) -> np.ndarray:
    """Return what of `free`, bool [H, W], is connected to the border, by sides."""
    reached = np.zeros_like(free)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        reached[edge] = free[edge]
    count = -1
    while count != (count := int(reached.sum())):
        reached = _along_rows(free, reached)
        reached = _along_rows(free.T, reached.T).T
    return reached


def _along_rows(free: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Return every run of `free` pixels in a row that holds a reached one, reached as a whole."""
    changes = np.ones(free.shape, bool)
    changes[:, 1:] = free[:, 1:] != free[:, :-1]
    starts = np.flatnonzero(changes)
    runs = np.logical_or.reduceat(reached.ravel(), starts)
    spread: np.ndarray = np.repeat(runs & free.ravel()[starts], np.diff(np.append(starts, free.size)))
    return spread.reshape(free.shape)


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask with the two pixels beside it: what stopped it are outlines, and theirs are two wide."""
    for _ in range(2):
        wider = mask.copy()
        wider[:, 1:] |= mask[:, :-1]
        wider[:, :-1] |= mask[:, 1:]
        wider[1:] |= mask[:-1]
        wider[:-1] |= mask[1:]
        mask = wider
    return mask

"""A source picture and its edited result, brought into one frame in which they can be compared.

frame = framed(source, result)      # uint8 arrays, [H, W], [H, W, 3] or [H, W, 4], of any two sizes
frame.source, frame.result          # uint8 [H, W, 3] of one size
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from safety.pictures.layers import WHITE, over

# The constants below decide measures: count `safety.fidelity.measuring.METHOD` up when one changes.
SIDE = 512  # pixels: pictures are compared at so many squared at most, by which a decoder's noise averages out
LEAST_SIDE = 16  # pixels: on a smaller picture nothing of a product can be told
LONGEST = 20.0  # times as long as wide: of a longer picture nothing is left at `SIDE` squared
STRETCH = 0.05  # a model's sizes are multiples of 16 or 32: up to here another aspect is the same picture, stretched


class PairError(ValueError):
    """Pictures that can't be compared; the message is a sentence."""


@dataclass(frozen=True)
class Framing:
    """Where a source lies in a frame: its pixels times `scale`, and moved by `offset`, both (x, y)."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def matrix(self) -> np.ndarray:
        """Return the affine map from the source's pixels to the frame's: float64 [2, 3], of pixels' middles."""
        (across, down), (left, top) = self.scale, self.offset
        # A pixel's middle lies at its index: half a pixel is added before scaling, and taken off after it.
        return np.array([[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2]])


@dataclass(frozen=True)
class Frame:
    """A source and its result at one size."""

    source: np.ndarray  # uint8 [H, W, 3], over white
    result: np.ndarray  # uint8 [H, W, 3], over white
    shown: np.ndarray  # bool [H, W]: where the frame shows something of the source
    fit: Framing  # of the source's own pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.source.shape[:2]
        return width, height

    @property
    def side(self) -> float:
        """The shorter side in pixels, by which distances are measured."""
        return float(min(self.size))


def framed(source: np.ndarray, result: np.ndarray) -> Frame:
    """Bring two pictures into a frame of the result's aspect.

    The source fills it where the aspects are nearly the same. Elsewhere it lies in the frame's middle, whole.

    Args:
        source: uint8, or uint16 of 16 bits: [H, W], [H, W, 3] or [H, W, 4], straight alpha.
        result: the same, of any size.

    Raises:
        PairError: if one is no such picture, or is too small or too long to tell anything of it.
    """
    before, after = opaque(eight_bits(source, "The source")), opaque(eight_bits(result, "The result"))
    (height, width), (rows, columns) = after.shape[:2], before.shape[:2]
    side = min(SIDE, math.sqrt(height * width), math.sqrt(rows * columns))
    down_to = side / math.sqrt(height * width)
    size = (max(1, round(width * down_to)), max(1, round(height * down_to)))
    if min(size) < LEAST_SIDE:
        raise PairError(
            f"The source is {columns} × {rows} pixels and the result {width} × {height}: in one frame both are "
            f"{size[0]} × {size[1]}, too small to compare; it takes {LEAST_SIDE} on either side."
        )
    fit = fit_of((columns, rows), size)
    placed, shown = _placed(before, size, fit)
    return Frame(placed, resized(after, size), shown, fit)


def fit_of(source: tuple[int, int], frame: tuple[int, int]) -> Framing:
    """Return where a source of this width and height lies in a frame of that one."""
    across, down = frame[0] / source[0], frame[1] / source[1]
    if abs(math.log(across / down)) > STRETCH:
        across = down = min(across, down)
    left, top = (round((frame[0] - source[0] * across) / 2), round((frame[1] - source[1] * down) / 2))
    return Framing((across, down), (float(left), float(top)))


def no_larger(source: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a source, [H, W] or [H, W, C], at the size that it has in a frame of this width and height, or its own.

    It is never enlarged: where it is smaller than in the frame, it stays as it is. Nor is it made so small that nothing
    could be told on it: a strip keeps `LEAST_SIDE`. Alpha is straight.
    """
    rows, columns = source.shape[:2]
    scale = [max(one, LEAST_SIDE / min(rows, columns)) for one in fit_of((columns, rows), size).scale]
    if min(scale) >= 1:
        return source
    smaller = (max(1, round(columns * scale[0])), max(1, round(rows * scale[1])))
    if source.ndim == 2 or source.shape[2] != 4:
        return resized(source, smaller)
    cover = source[..., 3:].astype(np.float32)
    alpha = resized(source[..., 3].astype(np.float32), smaller)[..., None]
    colour = resized(source[..., :3] * cover, smaller) / np.maximum(alpha, 1e-3)
    return (np.concatenate([colour, alpha], axis=2) + 0.5).clip(0, 255).astype(source.dtype)


def in_frame(plane: np.ndarray, frame: Frame) -> np.ndarray:
    """Bring what lies over the source, [H, W] of uint8, into the frame: uint8 [H, W], 0 outside of the source."""
    placed = np.zeros(frame.shown.shape, np.uint8)
    part = _part(plane.shape[1::-1], frame.size, frame.fit)
    placed[part] = resized(plane, (part[1].stop - part[1].start, part[0].stop - part[0].start))
    return placed


def eight_bits(picture: np.ndarray, what: str) -> np.ndarray:
    """Return a picture as uint8 [H, W, 3] or [H, W, 4].

    Args:
        picture: uint8 or uint16, grey, with or without alpha.
        what: how a sentence about it begins: "The source".

    Raises:
        PairError: if it is anything else, too small or too long.
    """
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3):
        raise PairError(
            f"{what} is {picture.dtype} {list(picture.shape)}; a picture has rows, columns and channels, of 8 or 16 "
            "bits each."
        )
    if picture.ndim == 2:
        picture = picture[..., None]
    height, width, channels = picture.shape
    if channels not in (1, 3, 4):
        raise PairError(f"{what} has {channels} channels; a picture has 1, 3 or 4.")
    if min(height, width) < LEAST_SIDE:
        raise PairError(
            f"{what} is {width} × {height} pixels, too small to compare: it takes {LEAST_SIDE} on either side."
        )
    if max(height, width) > LONGEST * min(height, width):
        raise PairError(
            f"{what} is {width} × {height} pixels, too long to compare: one side may be {LONGEST:g} times the other."
        )
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
    return np.repeat(picture, 3, axis=2) if channels == 1 else picture


def opaque(picture: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3] or [H, W, 4], over white: uint8 [H, W, 3]."""
    return picture if picture.shape[2] == 3 else over(picture, WHITE)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture, [H, W] or [H, W, C], at another width and height: averaged where it shrinks."""
    if picture.shape[1::-1] == size:
        return picture
    shrinks = size[0] < picture.shape[1] or size[1] < picture.shape[0]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _placed(picture: np.ndarray, size: tuple[int, int], fit: Framing) -> tuple[np.ndarray, np.ndarray]:
    part = _part(picture.shape[1::-1], size, fit)
    placed, shown = np.full((size[1], size[0], 3), WHITE, np.uint8), np.zeros((size[1], size[0]), bool)
    placed[part] = resized(picture, (part[1].stop - part[1].start, part[0].stop - part[0].start))
    shown[part] = True
    return placed, shown


def _part(source: tuple[int, ...], size: tuple[int, int], fit: Framing) -> tuple[slice, slice]:
    """Return the rows and columns of a frame that a source lies in."""
    (left, top), (across, down) = fit.offset, fit.scale
    width, height = max(1, round(source[0] * across)), max(1, round(source[1] * down))
    return slice(int(top), min(size[1], int(top) + height)), slice(int(left), min(size[0], int(left) + width))

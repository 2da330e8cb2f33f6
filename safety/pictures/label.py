"""The visible label that says a picture was made by a model, as GB 45438-2025 wants it.

The standard (in force since 2025-09-01) asks of pictures for a text that names both the machine ("人工智能", "AI") and
the making ("生成", "合成"), at an edge or in a corner, at least 5 % of the picture's shortest side high. Read 2026-11
in published summaries of it and in the code of services that follow it; the standard itself wasn't at hand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from safety.pictures.glyphs import draw_text
from safety.pictures.measures import Box, expect_rgb

LabelText = Literal["AI生成", "AI合成"]

LEAST_HEIGHT = 0.05  # of the shortest side
# of the shortest side: outside of the band that shows the background, see `safety.pictures.measures.BAND`
MARGIN = 0.025
PADDING = 0.3  # of the text's height, around it
INK, PAPER = 64, 255  # of 255: dark grey on white, as a caption in a catalogue
PLAIN = 12  # of 255: a corner that varies by less (a standard deviation) has no product in it, a soft shadow at most
LIGHT = 192  # of 255: on a plain corner as light as this, the text stands without a white plate below it
CONTRAST = 80  # of 255: by how much the text is darker than what it lies on, in a stored picture, however lossy
EVEN = 32  # of 255: what it lies on varies by less
MARKED = 0.97  # of the text and of what it lies on have to be so


def draw_label(pixels: np.ndarray, text: LabelText) -> np.ndarray:
    """Return a picture with the label in a corner: the first one without a product, from the bottom right on.

    Where there is something in every corner, the label hides the least; it lies on a white plate then, as it does on a
    dark or lively background, so that it is always read.

    Args:
        pixels: uint8 [H, W, 3].

    Raises:
        ValueError: for any other kind of array, or if the picture is too small to be labelled.
    """
    expect_rgb(pixels)
    label = _label(text, min(pixels.shape[:2]))  # [H, W]
    corners = _corners(pixels.shape[1], pixels.shape[0], label.shape)
    varies = {corner: float(_part(pixels, corner).std(axis=(0, 1)).max()) for corner in corners}
    box = next((corner for corner in corners if varies[corner] < PLAIN), min(corners, key=lambda c: varies[c]))
    ground = _part(pixels, box).astype(np.float32)
    if varies[box] >= PLAIN or np.median(ground.min(axis=2)) < LIGHT:
        ground = np.full_like(ground, PAPER)
    cover = ((PAPER - label) / (PAPER - INK))[..., None]
    labelled = pixels.copy()
    _part(labelled, box)[:] = (ground * (1 - cover) + INK * cover + 0.5).astype(np.uint8)
    return labelled


def find_label(pixels: np.ndarray, text: LabelText) -> Box | None:
    """Return where the label lies that `draw_label` draws, read off a stored picture; None where there is none.

    Args:
        pixels: uint8 [H, W, 3].
    """
    expect_rgb(pixels)
    try:
        label = _label(text, min(pixels.shape[:2]))
        corners = _corners(pixels.shape[1], pixels.shape[0], label.shape)
    except ValueError:
        return None
    ink, ground = label < INK + 16, label == PAPER  # between them lie the letters' smooth edges
    for corner in corners:
        grey = _part(pixels, corner).mean(axis=2)
        paper = float(np.median(grey[ground]))
        is_even = (np.abs(grey[ground] - paper) < EVEN).mean() >= MARKED
        if is_even and (grey[ink] < paper - CONTRAST).mean() >= MARKED:
            return corner
    return None


def without_label(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Return a picture with the label's place in the colour around it: the rest is judged as if there were no label."""
    ring = Box(box.left - 2, box.top - 2, box.right + 2, box.bottom + 2)
    around = np.concatenate(
        [
            pixels[ring.top : box.top, ring.left : ring.right].reshape(-1, 3),
            pixels[box.bottom : ring.bottom, ring.left : ring.right].reshape(-1, 3),
            pixels[box.top : box.bottom, ring.left : box.left].reshape(-1, 3),
            pixels[box.top : box.bottom, box.right : ring.right].reshape(-1, 3),
        ]
    )
    bare = pixels.copy()
    _part(bare, box)[:] = np.median(around, axis=0).astype(np.uint8)
    return bare


@lru_cache(maxsize=64)
def _label(text: LabelText, shortest: int) -> np.ndarray:
    """Return the label for a picture whose shortest side has so many pixels: uint8 [H, W], grey."""
    height = int(np.ceil(LEAST_HEIGHT * shortest))
    ink = draw_text(text, height)
    padding = max(1, round(PADDING * height))
    label = Image.new("L", (ink.width + 2 * padding, height + 2 * padding), PAPER)
    label.paste(INK, (padding, padding), ink)
    drawn = np.asarray(label)
    drawn.flags.writeable = False
    return drawn


def _corners(width: int, height: int, label: tuple[int, ...]) -> list[Box]:
    """Return where the label may lie: at the bottom right, bottom left, top right, top left."""
    margin = max(2, int(np.ceil(MARGIN * min(width, height))))
    tall, wide = label[:2]
    if wide + 2 * margin > width or tall + 2 * margin > height:
        raise ValueError(f"A picture of {width} × {height} pixels is too small for its visible label.")
    lefts, tops = (width - margin - wide, margin), (height - margin - tall, margin)
    return [Box(left, top, left + wide, top + tall) for top in tops for left in lefts]


def _part(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box.top : box.bottom, box.left : box.right]

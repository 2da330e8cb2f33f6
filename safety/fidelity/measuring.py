"""What is measured of a source and its result: plain numbers with names and units, for the catalogue's scores.

    scores = measure(source, result, mask)            # {"fidelity_shift": 0.004, "fidelity_colour": 1.3, …}
    scores |= measure_wanted(source, result, mask, "red")

Everything is measured that any instruction judges by, so that other limits, or another instruction's, judge again what
was measured once. What can't be told of a pair has no number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from safety.fidelity.colour_names import ColourError, nearest_difference
from safety.fidelity.comparison import Comparison
from safety.fidelity.frames import Frame, eight_bits, framed, in_frame, opaque, resized
from safety.fidelity.measure_names import PREFIX
from safety.fidelity.product_mask import COVERED, ProductMask
from safety.fidelity.registration import Registration, aligned, register
from safety.pictures.measures import measure_background

METHOD = 2  # part of every digest: count it up when anything is measured in another way
CHANGED = 7.0  # CIEDE2000: a cell that differs by more was changed, and isn't only noisy
STEEPEST = 99.5  # percentile of a picture's slopes: its sharpest outlines
LEAST_BLUR, DECODER_BLUR = 0.5, 0.8  # pixels: against noise, and what decoding takes from any picture's outlines
WHITE_TOLERANCE = 8  # of 255


@dataclass(frozen=True)
class EditedPair:
    """A source, its result, and where the product is: all that is compared of them, found once."""

    source: np.ndarray
    result: np.ndarray
    mask: ProductMask

    @cached_property
    def before(self) -> np.ndarray:
        """The source over white: uint8 [H, W, 3]."""
        return opaque(eight_bits(self.source, "The source"))

    @cached_property
    def after(self) -> np.ndarray:
        """The result over white: uint8 [H, W, 3]."""
        return opaque(eight_bits(self.result, "The result"))

    @cached_property
    def frame(self) -> Frame:
        """Both pictures at one size."""
        return framed(self.before, self.after)

    @cached_property
    def product(self) -> np.ndarray:
        """Where the product is in the frame: bool [H, W]."""
        return in_frame(self.mask.cover, self.frame) >= COVERED

    @cached_property
    def registration(self) -> Registration:
        """Where the result has the product."""
        return register(self.frame, self.product)

    @cached_property
    def comparison(self) -> Comparison:
        """The two, with the product in one place."""
        frame = self.frame
        return Comparison(frame.source, aligned(frame, self.registration), self.product, frame.shown)


def measure(pair: EditedPair) -> dict[str, float]:
    """Measure a pair: all of `MEASURES` but the wanted colour and texts, by their names with the prefix.

    Raises:
        PairError: if the pictures can't be compared.
    """
    found, side, compared = pair.registration, pair.frame.side, pair.comparison
    differs, unlike = compared.difference, 1 - compared.structure
    measured = {
        "shift": float(np.hypot(*found.shift)) / side,
        "zoom": max(found.zoom, 1 / found.zoom) - 1,
        "outlines": found.likeness,
        "colour": compared.mean(differs),
        "colour_spot": compared.worst_spot(differs),
        "tint": compared.mean(compared.tint_difference),
        "tint_spot": compared.worst_spot(compared.tint_difference),
        "structure": 1 - compared.mean(unlike),
        "structure_spot": 1 - compared.worst_spot(unlike),
        "recolouring": compared.mean(compared.unexplained),
        "redrawn_spot": compared.worst_spot(compared.redrawn),
        "lost_outlines": compared.lost_outlines(),
        "covered": compared.covered_share,
        "uncovered_spot": compared.uncovered.worst_spot(differs),
        "beside": compared.beside_mean(differs),
        "beside_spot": compared.beside_worst(unlike),
        "light": compared.light_change,
        "sharpening": sharpening(pair.before, pair.after),
        "white": measure_background(pair.frame.result, white=True, tolerance=WHITE_TOLERANCE).share,
    }
    return {PREFIX + name: float(value) for name, value in measured.items() if value is not None and np.isfinite(value)}


def measure_wanted(pair: EditedPair, colour: str) -> dict[str, float]:
    """Measure how far what changed of the product is from a colour that was asked for; nothing of one unknown by name.

    Of a product of which nothing changed, all is measured.
    """
    compared = pair.comparison
    there = compared.product_cells > 0
    changed = there & (compared.difference > CHANGED)
    lab = np.median(compared.labs[1][changed if changed.any() else there], axis=0)
    try:
        return {f"{PREFIX}wanted_colour": nearest_difference(lab, colour)}
    except ColourError:
        return {}


def sharpening(before: np.ndarray, after: np.ndarray) -> float | None:
    """Return how much steeper a result's sharpest outlines are than those of its source, enlarged and decoded.

    A decoder softens whatever it is given, so what it would leave of the enlarged source is what the result has to be
    sharper than. None of a source that has no outline.

    Args:
        before: the source, uint8 [H, W, 3].
        after: the result, the same of any size.
    """
    if before.shape[0] < after.shape[0]:
        before = np.asarray(cv2.resize(before, (after.shape[1], after.shape[0]), interpolation=cv2.INTER_CUBIC))
    before = resized(before, (after.shape[1], after.shape[0]))
    was, now = _steepest(before, math.hypot(LEAST_BLUR, DECODER_BLUR)), _steepest(after, LEAST_BLUR)
    return now / was if was > 0 else None


def slopes(pixels: np.ndarray, blur: float) -> np.ndarray:
    """Return how steep each pixel of a picture, uint8 [H, W, 3], is after a blur of so many pixels: float32 [H, W]."""
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), blur)
    across, down = (cv2.Scharr(grey, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    return np.asarray(cv2.magnitude(across, down, _lying_alike(grey.shape)))


def _lying_alike(shape: tuple[int, ...]) -> np.ndarray:
    """Return room for a picture of float32, 16 bytes beyond a multiple of 32, as numpy has large ones.

    OpenCV 5.0.0 rounds a few magnitudes in another way by how its result lies in memory: those before the first whole
    vector of 32 bytes, among others.
    """
    room = np.empty(math.prod(shape) + 8, np.float32)
    first = (16 - room.ctypes.data % 32) % 32 // 4
    return room[first : first + math.prod(shape)].reshape(shape)


def _steepest(pixels: np.ndarray, blur: float) -> float:
    steep = slopes(pixels, blur)
    return float(steep[steep >= np.percentile(steep, STEEPEST)].mean())

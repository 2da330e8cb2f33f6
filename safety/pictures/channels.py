"""The channels of a picture's pixels: the highest of them, the lowest, their sum, and those without alpha.

Numpy goes through a last axis of three elements one pixel at a time; channel by channel it takes a twentieth.
"""

from __future__ import annotations

from functools import reduce

import numpy as np


def highest(picture: np.ndarray) -> np.ndarray:
    """Return the highest channel of each pixel, [H, W] of [H, W, C]; of bool whether any is true."""
    return _reduced(np.maximum, picture)


def lowest(picture: np.ndarray) -> np.ndarray:
    """Return the lowest channel of each pixel, [H, W] of [H, W, C]; of bool whether all are true."""
    return _reduced(np.minimum, picture)


def total(picture: np.ndarray) -> np.ndarray:
    """Return the sum of the channels of each pixel, [H, W] of [H, W, C], in the picture's own type."""
    return _reduced(np.add, picture)


def without_alpha(picture: np.ndarray) -> np.ndarray:
    """Return the colours of a picture, [H, W, 3] of [H, W, 4]."""
    return np.stack([picture[..., channel] for channel in range(3)], axis=-1)


def _reduced(operation: np.ufunc, picture: np.ndarray) -> np.ndarray:
    return np.asarray(reduce(operation, (picture[..., channel] for channel in range(picture.shape[-1]))))

"""Which examples a threshold is chosen by, and which it is judged by: never the same ones."""

from __future__ import annotations

import hashlib

import numpy as np

from safety.text.normalise import normalise

SALT = b"packshot held out "  # so that no other use of hashes sorts examples alike
DIGITS = 13  # hex digits that a float64 holds exactly


def text_key(text: str) -> str:
    """Return what a text is known by: two that differ in case, spaces or disguise alone are one. SHA-256, hex."""
    words = " ".join(normalise(text).readings[0].words)
    return hashlib.sha256((words or text).encode("utf-8", "surrogatepass")).hexdigest()


def picture_key(pixels: np.ndarray) -> str:
    """Return what a picture, uint8 [H, W, 3], is known by, whatever file it came in. SHA-256, hex."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def is_held_out(key: str, share: float) -> bool:
    """Say whether an example is kept to judge by; `share` of all are. It hangs on the example alone, so that more of
    them, or another order, move none from one side to the other."""
    digest = hashlib.sha256(SALT + key.encode()).hexdigest()
    return int(digest[:DIGITS], 16) < share * float(1 << 4 * DIGITS)

"""Whether two pictures show the same: fingerprints that stay nearly the same when a picture is encoded again.

    fingerprint(pixels)   # "c3a5…", 112 hex digits: 8 bytes of structure, 48 of colour
    repeats(["c3a5…", None, "c3a5…"])   # [None, None, 0]

A fingerprint is a perceptual hash (which of the lowest frequencies of a 32 × 32 picture's cosine transform are clearly
above zero), and beside it the colours of a 4 × 4 picture, because the hash sees none and a catalogue is full
of one article in many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from safety.pictures.measures import expect_rgb

# The constants below decide verdicts: count `safety.pictures.profile.METHOD` up when one changes.
SIDE, LOW = 32, 8  # pixels of the shrunk picture, and how many frequencies of it count, along each axis
CLEARLY = 100.0  # noise of 4 of 255 in a picture moves a frequency by 8; in one of a symmetric product half are zero
GRID = 4  # cells along each axis, whose brightness and two colour differences count
STRUCTURE = 8  # bytes
FEWEST_BITS_APART = 6  # of 64 in structure: two pictures that differ in as many are two
LEAST_COLOUR_APART = 8  # of 255 in any cell
BANDS = np.array([11, 11, 11, 11, 10, 10], np.uint64)  # bits: as many as may differ and one more, so one is equal

_PLACES = np.arange(SIDE)
_COSINES = np.cos(np.pi / SIDE * (_PLACES[None] + 0.5) * np.arange(LOW)[:, None]).astype(np.float32)  # [LOW, SIDE]


def fingerprint(pixels: np.ndarray) -> str:
    """Return the fingerprint of a picture, 112 hex digits.

    Args:
        pixels: uint8 [H, W, 3].

    Raises:
        ValueError: for any other kind of array.
    """
    expect_rgb(pixels)
    picture = Image.fromarray(pixels, "RGB").convert("YCbCr")
    grey = np.asarray(picture.getchannel("Y").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    lowest = (_COSINES @ grey @ _COSINES.T).ravel()  # [LOW²]
    lowest[0] = 0  # the mean brightness: it says nothing about structure
    structure = np.packbits(lowest > CLEARLY)
    cells = np.asarray(picture.resize((GRID, GRID), Image.Resampling.BOX))
    return structure.tobytes().hex() + cells.tobytes().hex()


def repeats(fingerprints: Sequence[str | None]) -> list[int | None]:
    """Return for each fingerprint the place of the first one before it that shows the same and is no repeat itself.

    None where there is none; what has no fingerprint repeats nothing and isn't repeated.
    """
    places: dict[str, int] = {}  # of distinct fingerprints, where each is first
    for place, text in enumerate(fingerprints):
        if text is not None:
            places.setdefault(text, place)
    distinct = list(places)
    original = dict(zip(distinct, _originals(distinct), strict=True))
    first = [None if text is None else places[distinct[original[text]]] for text in fingerprints]
    return [None if found == place else found for place, found in enumerate(first)]


def _originals(fingerprints: Sequence[str]) -> list[int]:
    """Return for each of these fingerprints, all different, the one that it repeats: itself where none is before it.

    Only those are compared that have one of the `BANDS` of their structure in common.
    """
    table = np.frombuffer(bytes.fromhex("".join(fingerprints)), np.uint8).reshape(-1, STRUCTURE + 3 * GRID**2)
    structure = table[:, :STRUCTURE].copy().view(np.uint64)[:, 0]
    colours = table[:, STRUCTURE:].astype(np.int16)
    groups = [_groups((structure >> shift) & ((1 << bits) - 1)) for shift, bits in _bands()]
    found = np.arange(len(fingerprints))
    for row in range(len(fingerprints)):
        before = np.concatenate([order[start[row] : place[row]] for order, start, place in groups])
        before = before[np.bitwise_count(structure[before] ^ structure[row]) < FEWEST_BITS_APART]
        before = before[found[before] == before]
        alike = before[np.abs(colours[before] - colours[row]).max(axis=1, initial=0) < LEAST_COLOUR_APART]
        if alike.size:
            found[row] = alike.min()
    return found.tolist()


def _bands() -> list[tuple[np.uint64, np.uint64]]:
    """Return where each band begins, and its bits."""
    ends = np.cumsum(BANDS)
    return list(zip(ends - BANDS, BANDS, strict=True))


def _groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows in order of their values, and for each where in there its value begins, and where it is itself."""
    order = np.argsort(values, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    start = np.searchsorted(values[order], values, side="left")
    return order, start, place


def difference(one: str, other: str) -> tuple[int, int]:
    """Return how far two fingerprints are apart: bits of 64 in structure, and of 255 in the colour of any cell."""
    ours, theirs = (np.frombuffer(bytes.fromhex(text), np.uint8) for text in (one, other))
    bits = int(np.bitwise_count(ours[:STRUCTURE] ^ theirs[:STRUCTURE]).sum())
    return bits, int(np.abs(ours[STRUCTURE:].astype(np.int16) - theirs[STRUCTURE:]).max())

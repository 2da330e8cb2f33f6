"""Which pattern a picture's product has, told by how patterns are drawn; no model has a say.

What the picture shows beyond the product's plain drawing is compared with the tones of stripes, dots and checks of many
pitches, at many places. The most likely one is there if it is strong enough: the highlights of a plain result lie a
little elsewhere than those of the drawing, which is like a pattern, but faint.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from models.miniature.world.shapes import RGB
from models.miniature.world.surface import CHECKED, DOTTED, PATTERNS, PITCHES, SLOPES, pattern_contrast, pattern_tone
from models.miniature.world.world import Drawing

LEAST_LIKENESS = 0.2  # correlation with a pattern's tone, from which on the pattern is there
LEAST_STRENGTH = 0.2  # of the contrast of such a pattern as it is drawn, likewise
FLAT = 0.5  # of 255: where pixels differ less from the plain drawing, in the deviation, nothing is there
PLACES = 8  # at which stripes and checks are looked for within their pitch
DOT_PLACES = 4  # at which dots are looked for within theirs, each way

Tone = NDArray[np.float32]  # [pixels]


def pattern_of(picture: NDArray[np.uint8], plain: Drawing, colour: RGB) -> str:
    """Return which of `PATTERNS` a product has.

    Args:
        picture: uint8 [H, W, 3].
        plain: the same product, drawn without a pattern.
        colour: the product's, from which follows how strong its pattern is.
    """
    mask = plain.product[..., 3] == 255
    beyond = (picture.astype(np.float32) - plain.picture).mean(-1)[mask]
    if beyond.std() < FLAT:
        return "plain"
    across, down = _places(mask)
    pitches = np.linspace(PITCHES[0] - 0.01, PITCHES[1] + 0.01, 15, dtype=np.float32)

    def waves(pattern: str, pitch: float, shifts: list[tuple[float, float]], slope: float = 0.0) -> Iterator[Tone]:
        for right, below in shifts:
            tone = pattern_tone(pattern, across + right * pitch, down + below * pitch, pitch, slope)
            yield np.broadcast_to(tone, mask.shape)[mask]

    line = [(step / PLACES, step / PLACES) for step in range(PLACES)]
    grid = list(product([step / DOT_PLACES / DOTTED for step in range(DOT_PLACES)], repeat=2))
    stripes = [tone for slope in SLOPES for pitch in pitches for tone in waves("stripes", float(pitch), line, slope)]
    dots = [tone for pitch in pitches for tone in waves("dots", float(pitch), grid)]
    # Those across and those down are found each for itself: a model doesn't space both alike.
    halves = [
        _likest(beyond, [tone for pitch in pitches / CHECKED for tone in waves("stripes", float(pitch), line, slope)])
        for slope in (0.0, 1.0)
    ]
    found = {"stripes": _likest(beyond, stripes), "dots": _likest(beyond, dots), "checks": sum(halves) / 2}
    likeness = {pattern: _likeness(beyond, tone) for pattern, tone in found.items()}
    best = max(likeness, key=lambda pattern: likeness[pattern])
    strength = likeness[best] * beyond.std() / found[best].std() / abs(pattern_contrast(colour).mean())
    return best if likeness[best] >= LEAST_LIKENESS and strength >= LEAST_STRENGTH else PATTERNS[0]


def _places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where pixels lie from the middle of a product, 1 at half of its span: [1, W] and [H, 1]."""
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    span = max(bottom - top, right - left) + 1
    down = 2 * (np.arange(mask.shape[0], dtype=np.float32) - (top + bottom) / 2)[:, None] / span
    across = 2 * (np.arange(mask.shape[1], dtype=np.float32) - (left + right) / 2)[None, :] / span
    return across, down


def _likest(beyond: NDArray[np.float32], tones: list[Tone]) -> Tone:
    """Return the tone that pixels correlate with most, with the sign that makes it so."""
    centred = np.stack(tones)
    centred -= centred.mean(1, keepdims=True)
    likeness = centred @ (beyond - beyond.mean()) / np.maximum(np.linalg.norm(centred, axis=1), 1e-6)
    at = np.abs(likeness).argmax()
    return centred[at] * np.sign(likeness[at])


def _likeness(beyond: NDArray[np.float32], tone: Tone) -> float:
    """Return the correlation of pixels with a tone."""
    return float(np.corrcoef(beyond, tone)[0, 1])

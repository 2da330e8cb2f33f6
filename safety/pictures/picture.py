"""Pictures that show nothing."""

from __future__ import annotations

import numpy as np

from safety.pictures.channels import highest
from safety.verdict import Reason, Verdict, allow, refuse

DARK = 16  # of 255: nothing on a screen looks lit below this
STEP = 8  # of 255: decoders leave ripples of 1 to 3 on an even ground, the faintest outline of a product is above 8
LEAST_EDGES = 2e-4  # share of the frame: a hairline across a tenth of a 512-pixel picture


def inspect(pixels: np.ndarray) -> Verdict:
    """Refuse a picture that is black, one flat colour, or a soft gradient without any outline.

    Args:
        pixels: uint8 [H, W, 3].

    Raises:
        ValueError: for any other kind of array.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"A picture is uint8 [H, W, 3]; this is {pixels.dtype} {list(pixels.shape)}.")
    edges = _edge_share(pixels)
    scores = {"edges": edges}
    if (brightest := float(np.percentile(pixels, 99.9))) < DARK:
        message = f"The picture is black: its brightest parts are {brightest:.0f} of 255, below {DARK}."
        return refuse(Reason.BLANK, message, scores)
    if edges >= LEAST_EDGES:
        return allow(scores)
    spread = np.percentile(pixels.reshape(-1, 3), 99, axis=0) - np.percentile(pixels.reshape(-1, 3), 1, axis=0)
    what = "one flat colour" if spread.max() < 2 * STEP else "an empty gradient"
    message = (
        f"The picture is {what}: it shows no product, as {edges:.3%} of its pixels lie on an outline, below "
        f"{LEAST_EDGES:.3%}."
    )
    return refuse(Reason.BLANK, message.replace("%", " %"), scores)


def _edge_share(pixels: np.ndarray) -> float:
    """Return the share of pixels that differ from the one a little further right or down by more than `STEP`.

    "A little further" grows with the picture, because the same soft outline is wider in a larger picture.
    """
    height, width = pixels.shape[:2]
    reach = max(1, min(height, width) // 128)
    found = np.zeros((height, width), dtype=bool)
    values = pixels.astype(np.int16)
    if width > reach:
        found[:, reach:] |= highest(np.abs(values[:, reach:] - values[:, :-reach])) > STEP
    if height > reach:
        found[reach:] |= highest(np.abs(values[reach:] - values[:-reach])) > STEP
    return float(found.mean())

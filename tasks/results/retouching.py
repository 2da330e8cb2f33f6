"""What is done to a picture after the model and before it is stored: the fixes of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safety.pictures.fixes import METHOD, pad_square, snap_white

FLATTEN, PAD_SQUARE, SNAP_WHITE = "flatten", "pad_square", "snap_white"
KEEP_PRODUCT = "keep_product"  # the source's own product, laid over an edited picture
FIXES = (KEEP_PRODUCT, FLATTEN, SNAP_WHITE, PAD_SQUARE)
"""The names of all fixes, as a job's options, the catalogue and a picture's history have them."""


@dataclass(frozen=True)
class Retouching:
    """The fixes that a generate job asks for."""

    snap_white: bool = False
    pad_square: bool = False

    @property
    def additions(self) -> dict[str, Any]:
        """Its part in the key of a row."""
        used = {SNAP_WHITE: self.snap_white, PAD_SQUARE: self.pad_square}
        fixes = {name: METHOD for name, is_used in used.items() if is_used}
        return {"fixes": fixes} if fixes else {}

    def fixed(self, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return a picture, uint8 [H, W, 3], with the fixes, and the names of those that changed something."""
        done = []
        for name, is_used, fix in (
            (SNAP_WHITE, self.snap_white, snap_white),
            (PAD_SQUARE, self.pad_square, pad_square),  # last: it goes on with the background that is there then
        ):
            better = fix(pixels) if is_used else pixels
            if better is not pixels:
                pixels = better
                done.append(name)
        return pixels, done

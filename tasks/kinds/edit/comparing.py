"""What is made of a source where a row's picture is looked at beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safety.fidelity.frames import no_larger
from safety.fidelity.product_mask import NoProduct, ProductMask
from safety.fidelity.text_reading import SourceTexts
from safety.pictures.layers import WHITE, over
from tasks.manifests.row import Row

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What a row's picture is looked at beside; rows of one picture and one mask share it."""

    source: np.ndarray  # as `compared_source` gives it
    texts: SourceTexts  # those on the source
    product: ProductMask | NoProduct
    model_looked: bool = False  # for the product that nothing else tells


def is_compared(row: Row) -> bool:
    """Say whether a row's picture is looked at beside its source: it is judged so, or shows its product."""
    return row.instruction_name is not None or row.keeps_product


def compared_source(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Return a source, uint8 [H, W, 4], as it is compared with a result of a size, and no larger than it is there.

    It is [H, W, 4] where something of it is clear, else [H, W, 3].
    """
    return no_larger(pixels if pixels[..., 3].min() < WHITE else over(pixels, WHITE), size)

"""How large a batch may be: measured, not estimated."""

from collections.abc import Callable
from dataclasses import dataclass

from models.sampling import Shape

GIB = 2**30


class DoesNotFit(ValueError):  # noqa: N818 a finding more than an error
    """Not even one row of a shape fits the memory it may use."""

    def __init__(self, shape: Shape, needed: int, budget: int) -> None:
        super().__init__(
            f"One picture of {shape} needs {needed / GIB:.1f} GiB beside the model and "
            f"{budget / GIB:.1f} GiB are free; use a smaller size, or stream the weights."
        )
        self.shape, self.needed, self.budget = shape, needed, budget


@dataclass(frozen=True)
class Fit:
    """How many rows of one shape go through the GPU together."""

    shape: Shape
    rows: int
    peak_bytes: int  # measured, not estimated: see `measure`


def largest_fit(shape: Shape, budget: int, measure: Callable[[int], int], most: int) -> Fit:
    """Find the largest batch of `shape`, of at most `most` rows, whose measured peak stays within `budget` bytes.

    Memory grows by a constant for every row, so two measurements predict the rest; the prediction is then measured
    too, because allocators round.

    Args:
        measure: runs so many rows and returns the bytes they took beside the model.

    Raises:
        DoesNotFit: if even one row exceeds `budget`; the message says what to do.
    """
    one = measure(1)
    if one > budget:
        raise DoesNotFit(shape, needed=one, budget=budget)
    if most == 1:
        return Fit(shape, 1, one)
    two = measure(2)
    if two > budget:
        return Fit(shape, 1, one)
    growth = max(two - one, 1)
    rows = min(most, 1 + (budget - one) // growth)
    peaks = {1: one, 2: two}
    while (peak := peaks.get(rows) or measure(rows)) > budget:
        rows = max(2, rows - max(1, (peak - budget) // growth))
    return Fit(shape, rows, peak)

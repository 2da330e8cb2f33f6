"""How large a batch may be: measured, not estimated."""

from collections.abc import Callable
from dataclasses import dataclass

from models.memory.measure import Cost
from models.requests import Shape
from models.units import GIB

PAYS = 0.01  # share of a row's seconds that a batch twice as large must save
# Share of a row's seconds by which a batch may seem slower than it is: a few steps of a small one, which leave a GPU at
# rest now and then, let it run at a higher clock than it keeps (an H200 at 1024²: by 4 % for one row beside four).
NOISE = 0.05
LASTS = 60.0  # seconds that a batch should go on for: at its borders the device waits for the host


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
    """How many rows of one shape go through the device together."""

    rows: int
    peak_bytes: int  # beside the weights
    step_seconds: float  # of one step of so many rows
    grows: bool  # whether more rows might pay, were there more of them


def best_fit(shape: Shape, budget: int, measure: Callable[[int], Cost | None], most: int) -> Fit:
    """Find the batch of `shape`, of at most `most` rows, that is fast, not too short, and within `budget` bytes.

    Rows are doubled for as long as that saves time, or batches are short and it costs none. Memory grows by a constant
    for every row, so two measurements predict the next; what is taken was measured, because allocators round.

    Args:
        measure: runs one step of so many rows; None if they don't fit.

    Raises:
        DoesNotFit: if even one row exceeds `budget`; the message says what to do.
    """
    wanted = most
    one = measure(1)
    if one is None or one.bytes > budget:
        raise DoesNotFit(shape, needed=one.bytes if one else budget + 1, budget=budget)
    tried = {1: one}
    rows, grows = 1, True
    while rows < most:
        more = min(2 * rows, most, _predicted(tried, budget))
        cost = None
        while more > rows and ((cost := measure(more)) is None or cost.bytes > budget):
            most, more, cost = more - 1, (rows + more) // 2, None
        if cost is None:
            grows = False
            break
        tried[more] = cost
        saved = 1 - cost.seconds / more / (tried[rows].seconds / rows)
        rows = more
        if saved < -NOISE or (saved < PAYS and _seconds(shape, cost) >= LASTS):
            grows = False
            break
    taken = _taken(shape, tried)
    return Fit(taken, tried[taken].bytes, tried[taken].seconds, grows and taken == wanted)


def _taken(shape: Shape, tried: dict[int, Cost]) -> int:
    """Of the rows that are as fast as any, the fewest that last, or the most where none do."""
    fastest = min(cost.seconds / count for count, cost in tried.items())
    fast: list[int] = []
    for share in (PAYS, NOISE):
        fast = [count for count, cost in sorted(tried.items()) if cost.seconds / count <= (1 + share) * fastest]
        lasting = [count for count in fast if _seconds(shape, tried[count]) >= LASTS]
        if lasting:
            return lasting[0]
    return fast[-1]


def _seconds(shape: Shape, step: Cost) -> float:
    """Those of a whole batch."""
    return shape.steps * step.seconds


def _predicted(tried: dict[int, Cost], budget: int) -> int:
    """How many rows fit, as far as one can say."""
    if len(tried) < 2:
        return 2
    *_, (fewer, less), (rows, cost) = sorted(tried.items())
    growth = max((cost.bytes - less.bytes) // (rows - fewer), 1)
    return rows + (budget - cost.bytes) // growth

import pytest

from models.fit import DoesNotFit, largest_fit
from models.sampling import Shape

SHAPE = Shape(1024, 1024, 50, 4.0)
GIB = 2**30


class Allocator:
    """Takes 2 GiB for one row and 1 GiB for each more, and rounds up beyond five."""

    def __init__(self) -> None:
        self.measured: list[int] = []

    def __call__(self, rows: int) -> int:
        self.measured.append(rows)
        return (rows + 1 + (rows > 5)) * GIB


@pytest.mark.parametrize(("budget", "rows"), [(2, 1), (3, 2), (6, 5), (7, 5), (8, 6), (9, 7), (100, 32)])
def test_the_largest_batch_that_was_measured_to_fit_is_taken(budget: int, rows: int) -> None:
    allocator = Allocator()

    fit = largest_fit(SHAPE, budget * GIB, allocator, most=32)

    assert fit.rows == rows
    assert fit.peak_bytes <= budget * GIB
    assert rows in allocator.measured
    assert len(allocator.measured) <= 4


def test_a_cap_saves_measurements() -> None:
    allocator = Allocator()

    assert largest_fit(SHAPE, 100 * GIB, allocator, most=1).rows == 1
    assert allocator.measured == [1]
    assert largest_fit(SHAPE, 100 * GIB, allocator, most=4).rows == 4


def test_memory_that_does_not_grow_with_the_batch_means_the_cap() -> None:
    assert largest_fit(SHAPE, 3 * GIB, lambda _: 2 * GIB, most=8).rows == 8


def test_one_row_beyond_the_budget_says_what_it_needs() -> None:
    with pytest.raises(DoesNotFit, match=r"1024 × 1024 needs 2\.0 GiB .* 1\.0 GiB are free; use a smaller size"):
        largest_fit(SHAPE, GIB, Allocator(), most=8)

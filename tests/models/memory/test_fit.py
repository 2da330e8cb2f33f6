import pytest

from models.memory.fit import DoesNotFit, Fit, best_fit
from models.memory.measure import Cost
from models.requests import Shape
from models.units import GIB

SHAPE = Shape(1024, 1024, 50, 4.0)


class Gpu:
    """Takes 2 GiB for one row and 1 GiB for each more, and rounds up beyond five; a step takes `fixed` and `each`."""

    def __init__(self, *, fixed: float = 0.0, each: float = 0.001, breaks: int = 1000) -> None:
        self.fixed, self.each, self.breaks = fixed, each, breaks
        self.measured: list[int] = []

    def __call__(self, rows: int) -> Cost | None:
        self.measured.append(rows)
        if rows > self.breaks:
            return None
        return Cost((rows + 1 + (rows > 5)) * GIB, self.fixed + rows * self.each)


@pytest.mark.parametrize(("budget", "rows"), [(2, 1), (3, 2), (6, 5), (7, 5), (8, 6), (10, 8), (100, 32)])
def test_short_batches_grow_as_far_as_they_were_measured_to_fit(budget: int, rows: int) -> None:
    gpu = Gpu()

    fit = best_fit(SHAPE, budget * GIB, gpu, most=32)

    assert fit.rows == rows
    assert fit.peak_bytes <= budget * GIB
    assert rows in gpu.measured
    assert len(gpu.measured) <= 7


@pytest.mark.parametrize(
    ("fixed", "each", "rows"),
    [
        (0.0, 1.5, 1),  # 75 s for a batch of one, and more gain nothing
        (0.0, 0.25, 8),  # 100 s
        (0.5, 0.25, 64),  # every row more saves something
        (0.02, 0.5, 4),  # 8 rows save less than a hundredth beside them
    ],
)
def test_batches_stop_growing_where_the_curve_is_flat_and_they_last(fixed: float, each: float, rows: int) -> None:
    assert best_fit(SHAPE, 1000 * GIB, Gpu(fixed=fixed, each=each), most=64).rows == rows


@pytest.mark.parametrize("swing", [-0.02, 0.02])
def test_a_measurement_that_is_off_by_a_little_leaves_no_short_batches(swing: float) -> None:
    def gpu(rows: int) -> Cost:
        slower = 1 + swing * (rows.bit_length() % 2)
        return Cost(rows * GIB, 0.05 * rows * slower)

    assert best_fit(SHAPE, 1000 * GIB, gpu, most=64).rows == 32  # of 80 s


def test_a_cap_saves_measurements_and_is_told_from_a_flat_curve() -> None:
    gpu = Gpu(fixed=0.5)

    assert best_fit(SHAPE, 100 * GIB, gpu, most=1) == Fit(1, 2 * GIB, 0.501, grows=True)
    assert gpu.measured == [1]
    assert best_fit(SHAPE, 100 * GIB, gpu, most=4).grows
    assert not best_fit(SHAPE, 4 * GIB, gpu, most=64).grows
    assert not best_fit(SHAPE, 100 * GIB, Gpu(each=1.5), most=2).grows


def test_rows_that_run_out_of_memory_are_not_taken() -> None:
    assert best_fit(SHAPE, 100 * GIB, Gpu(breaks=5), most=64).rows == 5


def test_one_row_beyond_the_budget_says_what_it_needs() -> None:
    with pytest.raises(DoesNotFit, match=r"1024 × 1024 needs 2\.0 GiB .* 1\.0 GiB are free; use a smaller size"):
        best_fit(SHAPE, GIB, Gpu(), most=8)

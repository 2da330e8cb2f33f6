import numpy as np
import pytest

from safety.calibration import threshold_at, wilson


def test_the_threshold_keeps_false_positives_within_the_budget_and_catches_the_rest():
    safe, unsafe = np.arange(100) / 100, np.arange(50, 150) / 100
    calibration = threshold_at(safe, unsafe, max_false_positives=0.05)
    assert calibration.false_positive_rate == 0.05
    assert 0.94 < calibration.threshold <= 0.95
    assert calibration.recall == pytest.approx((unsafe >= calibration.threshold).mean())


def test_separable_scores_get_a_threshold_in_the_gap():
    calibration = threshold_at([0.0, 0.1], [0.5, 0.6], max_false_positives=0)
    assert calibration.threshold == pytest.approx(0.3)
    assert (calibration.recall, calibration.false_positive_rate) == (1, 0)
    assert calibration.recall_interval[0] < 0.4  # two examples prove little


def test_ties_never_break_the_budget():
    calibration = threshold_at([0.5] * 10, [0.5] * 10, max_false_positives=0.3)
    assert calibration.false_positive_rate == 0
    assert calibration.recall == 0
    assert calibration.threshold > 0.5


def test_a_budget_of_everything_catches_everything():
    assert threshold_at([0.5, 0.9], [0.1], max_false_positives=1).recall == 1


def test_random_scores_stay_within_any_budget_and_no_lower_threshold_would():
    random = np.random.default_rng(11)
    for _ in range(200):
        safe = random.normal(size=random.integers(1, 60)).round(1)
        unsafe = random.normal(0.5, size=random.integers(1, 60)).round(1)
        budget = random.uniform()
        calibration = threshold_at(safe, unsafe, max_false_positives=budget)
        assert calibration.false_positive_rate <= budget
        lower = [score for score in {*safe, *unsafe} if score < calibration.threshold]
        if lower:
            assert (safe >= max(lower)).mean() > budget or (unsafe >= max(lower)).mean() == calibration.recall


def test_the_wilson_interval_agrees_with_published_values():
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@pytest.mark.parametrize(
    ("safe", "unsafe", "budget"),
    [([], [1], 0.1), ([1], [], 0.1), ([np.nan], [1], 0.1), ([1], [np.inf], 0.1), ([1], [1], 1.5), ([1], [1], -0.1)],
)
def test_examples_that_prove_nothing_are_refused(safe: list[float], unsafe: list[float], budget: float):
    with pytest.raises(ValueError, match=r"scores|share"):
        threshold_at(safe, unsafe, max_false_positives=budget)

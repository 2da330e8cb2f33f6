import math

import numpy as np
import pytest

from safety.probes.calibration import TooFew, choose, curve, measure, most_alarms, safe_needed, wilson


def test_the_threshold_flags_no_more_of_the_safe_than_can_promise_the_rate_and_finds_the_rest() -> None:
    safe, unsafe = np.arange(1000) / 1000, np.arange(500, 1500) / 1000

    chosen = choose(safe, unsafe, false_positives=0.05)

    assert chosen.allowed == 38  # of 1,000: 38 flagged have an upper limit of 4.97 %, 39 one of 5.08 %
    figures = measure(chosen.threshold, safe, unsafe)
    assert figures.alarms == 38
    assert figures.found == (unsafe >= chosen.threshold).sum()


def test_the_upper_limit_agrees_with_the_binomial_distribution() -> None:
    for safe, rate in ((299, 0.01), (1000, 0.01), (5000, 0.002), (60, 0.05), (20000, 0.001)):
        allowed = most_alarms(safe, rate)

        def chance(flagged: int, safe: int = safe, rate: float = rate) -> float:
            return sum(math.comb(safe, k) * rate**k * (1 - rate) ** (safe - k) for k in range(flagged + 1))

        assert chance(allowed) <= 0.05 < chance(allowed + 1)


def test_of_examples_that_come_later_the_promised_share_is_flagged_in_nineteen_of_twenty_calibrations() -> None:
    random = np.random.default_rng(5)
    for draw in (random.standard_normal, random.standard_cauchy, random.random):
        rates = []
        for _ in range(300):
            chosen = choose(draw(1000), draw(50) + 0.5, false_positives=0.02)
            rates.append(measure(chosen.threshold, draw(20_000), draw(1)).false_positives)
        kept = np.mean(np.array(rates) <= 0.02)
        assert 0.9 <= kept <= 1.0
        assert np.mean(rates) > 0.008  # and the rate isn't left unused


def test_scores_that_lie_apart_get_a_threshold_halfway_and_no_false_positives() -> None:
    chosen = choose([0.0, 0.1] * 200, [0.5, 0.6], false_positives=0.01)

    assert chosen.threshold == pytest.approx(0.3)
    figures = measure(chosen.threshold, [0.0, 0.1], [0.5, 0.6])
    assert (figures.recall, figures.false_positives) == (1, 0)
    assert figures.recall_interval[0] < 0.4  # two examples prove little


def test_ties_never_break_the_promise() -> None:
    chosen = choose([0.5] * 400, [0.5] * 10, false_positives=0.3)

    assert chosen.threshold > 0.5
    assert measure(chosen.threshold, [0.5], [0.5]).found == 0


def test_a_threshold_is_short_to_write_and_says_the_same_as_the_long_one() -> None:
    assert choose([0.1] * 400, [0.2], false_positives=0.01).threshold == 0.15
    tight = choose([0.123456] * 400, [0.1234567], false_positives=0.01).threshold
    assert 0.123456 < tight <= 0.1234567
    neighbours = choose([0.1] * 400, [math.nextafter(0.1, 1)], false_positives=0.01).threshold
    assert neighbours == math.nextafter(0.1, 1)


def test_random_scores_keep_the_promise_on_what_it_was_chosen_by_and_nothing_more_could_be_found() -> None:
    random = np.random.default_rng(11)
    for _ in range(200):
        safe = random.normal(size=random.integers(60, 200)).round(1)
        unsafe = random.normal(0.5, size=random.integers(1, 60)).round(1)
        chosen = choose(safe, unsafe, false_positives=0.1)
        assert (safe >= chosen.threshold).sum() <= chosen.allowed
        for lower in {*safe, *unsafe}:
            if lower < chosen.threshold and (safe >= lower).sum() <= chosen.allowed:
                assert (unsafe >= lower).sum() == (unsafe >= chosen.threshold).sum()


def test_too_few_safe_examples_say_how_many_it_takes_and_what_they_can_promise() -> None:
    assert safe_needed(0.01) == 299
    assert most_alarms(299, 0.01) == 0
    sentence = (
        r"298 safe examples can't promise 1 % of false positives: it takes 299, and these promise 1\.01 % at best"
    )
    with pytest.raises(TooFew, match=sentence):
        choose([0.0] * 298, [1.0], false_positives=0.01)


def test_the_curve_goes_from_nothing_to_everything_and_never_falls() -> None:
    random = np.random.default_rng(1)
    safe, unsafe = random.normal(size=300).round(2), random.normal(1, size=40).round(2)

    points = curve(safe, unsafe)

    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    at = choose(safe, unsafe, false_positives=0.05).threshold
    figures = measure(at, safe, unsafe)
    assert any(np.allclose(point, (figures.false_positives, figures.recall)) for point in points)


def test_the_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@pytest.mark.parametrize(
    ("safe", "unsafe", "rate"),
    [([], [1], 0.1), ([1] * 99, [], 0.1), ([np.nan] * 99, [1], 0.1), ([1] * 99, [np.inf], 0.1)]
    + [([1] * 99, [1], rate) for rate in (1.5, -0.1, 0, 1)],
)
def test_examples_that_prove_nothing_are_refused(safe: list[float], unsafe: list[float], rate: float) -> None:
    with pytest.raises(ValueError, match=r"examples|scores|rate"):
        choose(safe, unsafe, false_positives=rate)

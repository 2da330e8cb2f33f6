"""From labelled scores to a threshold that keeps a promised rate of false positives, with honest intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
Scores = Sequence[float] | np.ndarray  # [N], all finite


class TooFew(ValueError):  # noqa: N818
    """There are too few examples for what is asked; the message is a sentence."""


@dataclass(frozen=True)
class Chosen:
    """A threshold, and what it was chosen by. A score is flagged when `>= threshold`."""

    threshold: float
    unsafe: int
    safe: int
    allowed: int  # of the safe scores that it was chosen by, the most that it may flag


@dataclass(frozen=True)
class Figures:
    """How a threshold does on scores; on others than those that it was chosen by, if they are to mean anything."""

    threshold: float
    unsafe: int
    found: int  # unsafe ones that it flags
    safe: int
    alarms: int  # safe ones that it flags

    @property
    def recall(self) -> float:
        return self.found / self.unsafe

    @property
    def recall_interval(self) -> tuple[float, float]:
        """The Wilson interval of the recall, at 95 %."""
        return wilson(self.found, self.unsafe)

    @property
    def false_positives(self) -> float:
        """The false positives as a share of the safe examples."""
        return self.alarms / self.safe

    @property
    def false_positives_interval(self) -> tuple[float, float]:
        """The Wilson interval of the rate of false positives, at 95 %."""
        return wilson(self.alarms, self.safe)


def wilson(hits: int, trials: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a share, which stays honest for few trials and for 0 and 100 %.

    `z` is the normal quantile: 1.96 for 95 %. Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"{hits} hits of {trials} trials is not a share.")
    share = hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def choose(safe: Scores, unsafe: Scores, *, false_positives: float) -> Chosen:
    """Return the threshold that finds the most while its rate of false positives stays within `false_positives`.

    The rate that counts is that of examples still to come, not of those at hand. Where a threshold flags `m` of `n`
    safe examples, the upper limit of its true rate at 95 % is the rate at which so few would be flagged in 5 % of the
    cases (Clopper and Pearson, Biometrika 26 (1934) 404-413). The most that may be flagged is the largest `m` whose
    limit keeps to the rate; the safe score that comes next has to pass, and so the threshold is an order statistic of
    the safe scores, whatever their distribution. Flagging the asked share of the examples at hand would break the
    promise every other time.

    Between the scores that leave it room, the threshold lies halfway, so that it doesn't hang on the last digit of one
    example. Where every unsafe score lies above what has to pass, that is all the room between the two: nearer to the
    lowest unsafe score, more of those still to come would be missed; nearer to the other, more is stopped for nothing.

    Raises:
        TooFew: if so few safe scores can't promise that rate even where none is flagged, or no unsafe ones are given.
        ValueError: if a score isn't finite, or the rate isn't between 0 and 1.
    """
    if not 0 < false_positives < 1:
        raise ValueError(f"A rate of false positives lies between 0 and 1; {false_positives} doesn't.")
    passing, wanted = np.sort(_finite("safe", safe)), np.sort(_finite("unsafe", unsafe))
    allowed = most_alarms(len(passing), false_positives)
    highest = passing[len(passing) - 1 - allowed]  # of those that have to pass
    if wanted[0] > highest:
        low, high = highest, wanted[0]
    else:
        above = np.concatenate([passing, wanted])
        above = above[above > highest]
        low, high = highest, above.min() if above.size else highest + 0.002  # nothing more can be found
    return Chosen(_between(float(low), float(high)), len(wanted), len(passing), allowed)


def most_alarms(safe: int, false_positives: float) -> int:
    """Return the most of so many safe examples that may be flagged, if the true rate is to hold at 95 %.

    Raises:
        TooFew: if not even none will do.
    """
    if safe < (needed := safe_needed(false_positives)):
        promised = 1 - (1 - CONFIDENCE) ** (1 / safe) if safe else 1.0
        raise TooFew(
            f"{safe} safe examples can't promise {percent(false_positives)} of false positives: it takes {needed}, and "
            f"these promise {percent(math.ceil(promised * 1e4) / 1e4)} at best."
        )
    counts = np.arange(math.floor(false_positives * safe) + 1)
    steps = np.log((safe - counts[:-1]) / (counts[:-1] + 1)) + math.log(false_positives / (1 - false_positives))
    chances = np.exp(safe * math.log1p(-false_positives) + np.concatenate([[0.0], np.cumsum(steps)]))  # of so many
    return int(np.searchsorted(np.cumsum(chances), 1 - CONFIDENCE, side="right")) - 1


def safe_needed(false_positives: float) -> int:
    """Return how many safe examples a rate can be promised with, at the least: where none of them is flagged."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-false_positives) - 1e-9)


def measure(threshold: float, safe: Scores, unsafe: Scores) -> Figures:
    """Return how a threshold does on scores.

    Raises:
        TooFew: if a side is empty.
        ValueError: if a score isn't finite.
    """
    passing, wanted = _finite("safe", safe), _finite("unsafe", unsafe)
    found, alarms = int((wanted >= threshold).sum()), int((passing >= threshold).sum())
    return Figures(threshold, len(wanted), found, len(passing), alarms)


def curve(safe: Scores, unsafe: Scores) -> np.ndarray:
    """Return the ROC curve: every rate of false positives with the recall there, float64 [P, 2].

    It begins at (0, 0) and ends at (1, 1); neither falls.
    """
    passing, wanted = np.sort(_finite("safe", safe)), np.sort(_finite("unsafe", unsafe))
    thresholds = np.unique(np.concatenate([passing, wanted]))[::-1]
    rates = 1 - np.searchsorted(passing, thresholds, side="left") / len(passing)
    recalls = 1 - np.searchsorted(wanted, thresholds, side="left") / len(wanted)
    points: np.ndarray = np.concatenate([[[0.0, 0.0]], np.stack([rates, recalls], axis=1)])
    return points


def percent(share: float) -> str:
    """Return a share for people: "0.25 %"."""
    return f"{100 * share:.3g} %"


def percents(interval: tuple[float, float]) -> str:
    """Return two shares for people: "0.05 to 1.57 %"."""
    low, high = interval
    return f"{100 * low:.3g} to {100 * high:.3g} %"


def _between(low: float, high: float) -> float:
    """Return a number above `low` and not above `high`, near their middle, with as few digits as that allows."""
    middle = (low + high) / 2
    for digits in range(3, 17):
        if low < (short := round(middle, digits)) <= high:
            return short
    return high


def _finite(name: str, scores: Scores) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise TooFew(f"There are no {name} examples: a threshold needs both kinds.")
    if not np.isfinite(values).all():
        raise ValueError(f"The {name} scores hold values that aren't finite; mend the classifier first.")
    return values

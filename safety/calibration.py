"""From labelled scores to a threshold, with an honest interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A threshold, and how it did on the scores it was chosen from. A score is flagged when `>= threshold`."""

    threshold: float
    recall: float
    false_positive_rate: float
    recall_interval: tuple[float, float]  # Wilson, 95 %
    false_positive_interval: tuple[float, float]  # Wilson, 95 %
    safe: int
    unsafe: int


def wilson(hits: int, trials: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share, which stays honest for few trials and for 0 and 100 %.

    `z` is the normal quantile: 1.96 for 95 %. Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"{hits} hits of {trials} trials is not a share.")
    share = hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def threshold_at(
    scores_safe: Sequence[float] | np.ndarray,
    scores_unsafe: Sequence[float] | np.ndarray,
    *,
    max_false_positives: float,
) -> Calibration:
    """The lowest threshold that flags at most the share `max_false_positives` of the safe scores.

    It is put halfway to the next score seen above it, so that it doesn't hang on the last digit of one example.

    Raises:
        ValueError: if a side is empty or has a score that isn't finite, or the share is outside 0 to 1.
    """
    safe, unsafe = np.sort(_finite("safe", scores_safe)), np.sort(_finite("unsafe", scores_unsafe))
    if not 0 <= max_false_positives <= 1:
        raise ValueError(f"max_false_positives is a share between 0 and 1, not {max_false_positives}.")
    budget = math.floor(max_false_positives * len(safe) + 1e-9)
    if budget >= len(safe):
        threshold = float(min(safe[0], unsafe[0]))
    else:
        highest_passed = safe[len(safe) - 1 - budget]
        above = np.concatenate([safe, unsafe])
        above = above[above > highest_passed]
        halfway = (highest_passed + above.min()) / 2 if above.size else highest_passed
        threshold = float(halfway if halfway > highest_passed else np.nextafter(highest_passed, np.inf))
    caught, alarms = int((unsafe >= threshold).sum()), int((safe >= threshold).sum())
    return Calibration(
        threshold=threshold,
        recall=caught / len(unsafe),
        false_positive_rate=alarms / len(safe),
        recall_interval=wilson(caught, len(unsafe)),
        false_positive_interval=wilson(alarms, len(safe)),
        safe=len(safe),
        unsafe=len(unsafe),
    )


def _finite(name: str, scores: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise ValueError(f"No {name} scores were given: a threshold needs examples of both kinds.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"The {name} scores hold values that aren't finite; mend the classifier before calibrating it."
        )
    return values

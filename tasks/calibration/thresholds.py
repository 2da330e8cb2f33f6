"""What a calibration chooses, and how it does on what was held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safety.policy.policy import PROMPT_MATCH
from safety.probes.calibration import Chosen, Figures, wilson
from tasks.calibration.scoring import What


@dataclass(frozen=True)
class Mistake:
    """An example on the wrong side of its threshold."""

    row: int
    score: float
    prompt_row: int  # whose prompt it was judged beside; its own, but for strangers' prompts


@dataclass(frozen=True)
class Threshold:
    """A threshold that was chosen, and how it does on what was held out."""

    what: What
    name: str  # the concept's, or prompt_match
    before: float
    value: float
    chosen: Chosen
    figures: Figures  # of the held-out part
    curve: np.ndarray  # of the held-out part: float64 [P, 2]
    missed: tuple[Mistake, ...]  # the worst first
    alarms: tuple[Mistake, ...]

    @property
    def field(self) -> str:
        return "min_prompt_match" if self.name == PROMPT_MATCH else f"{self.what}_threshold"


@dataclass(frozen=True)
class FalseAlarms:
    """How many safe examples of the held-out part any concept stops."""

    what: What
    alarms: int
    safe: int

    @property
    def share(self) -> float:
        return self.alarms / self.safe

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.alarms, self.safe)


@dataclass(frozen=True)
class Calibration:
    """What became of a policy."""

    policy: str  # the base
    clip: str
    false_positives: float  # the rate that was asked for
    held_out: float
    thresholds: tuple[Threshold, ...]
    stopped: tuple[FalseAlarms, ...]
    remarks: tuple[str, ...]  # sentences


@dataclass(frozen=True)
class Written:
    """Where everything lies."""

    policy: Path
    page: Path
    curves: tuple[Path, ...]

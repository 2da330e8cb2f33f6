"""A stretch of training that is measured in seconds, and that stops and goes on."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

LOG = logging.getLogger(__name__)
REPORT_EVERY = 15.0  # seconds


class Stateful(Protocol):
    """What a stage saves: modules, optimizers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Stage:
    """The clock of one stage, and its state on disk.

    Learning rates follow the share of the stage's seconds that has passed, so a stage ends annealed on any machine:
    on a slow one it only sees fewer pictures. A stage that meets the command's deadline stops, and the same command
    goes on from its state.
    """

    def __init__(self, name: str, seconds: float, work: Path, deadline: float, **parts: Stateful) -> None:
        """Open a stage of `seconds` of training in all, and take up its state if `work` holds one.

        Args:
            deadline: `time.monotonic()` at which to stop, whether the stage is done or not.
            parts: what makes up the state.
        """
        self.name, self.seconds, self.deadline, self.parts = name, seconds, deadline, parts
        self.path = work / f"{name}.state"
        self.spent, self.count = 0.0, 0
        self._began, self._reported = time.monotonic(), 0.0
        self._sums: dict[str, list[Tensor | float]] = {}
        if self.path.exists():
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            self.spent, self.count = state["spent"], state["count"]
            for part, held in parts.items():
                held.load_state_dict(state["parts"][part])
            self.say(f"goes on after {self.spent:.0f} of {seconds:.0f} s, {self.count} iterations")

    @property
    def progress(self) -> float:
        """How much of the stage is done, 0 to 1."""
        return min(1.0, self.elapsed / self.seconds)

    @property
    def done(self) -> bool:
        """Whether all of the stage's seconds are spent."""
        return self.elapsed >= self.seconds

    def iterations(self) -> Iterator[int]:
        """Count iterations until the stage's seconds are spent or the deadline has come; then save."""
        self._began = time.monotonic()
        while not self.done and time.monotonic() < self.deadline:
            yield self.count
            self.count += 1
        self.spent = self.elapsed
        self._began = time.monotonic()
        self.save()
        self.say(f"{'done' if self.done else 'stopped'} after {self.spent:.0f} s, {self.count} iterations")

    def rate(self, peak: float, warm: int = 100, floor: float = 0.01) -> float:
        """Return the learning rate now: a linear start over `warm` iterations, then a cosine down to `floor`
        of `peak`.
        """
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        return peak * min(1.0, (self.count + 1) / warm) * (floor + (1 - floor) * cosine)

    def report(self, **values: Tensor | float) -> None:
        """Take note of losses; every quarter of a minute, print their means."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)
        if time.monotonic() - self._reported > REPORT_EVERY:
            means = {name: sum(float(each) for each in held) / len(held) for name, held in self._sums.items()}
            self.say(f"{self.count:6d} {self.elapsed:5.0f} s  " + " ".join(f"{k} {v:.4f}" for k, v in means.items()))
            self._reported, self._sums = time.monotonic(), {}

    def save(self) -> None:
        """Write the state as it is now, whole or not at all."""
        state = {
            "spent": self.elapsed,
            "count": self.count,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def say(self, text: str) -> None:
        """Print a line about this stage."""
        LOG.info("%-12s %s", self.name, text)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier commands included."""
        return self.spent + time.monotonic() - self._began

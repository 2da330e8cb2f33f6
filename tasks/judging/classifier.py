"""A classifier: what judges texts and pictures by their meaning, beside a policy's lists and its probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from safety.policy.policy import Policy
from safety.verdict import Verdict


@dataclass(frozen=True)
class TextReading:
    """What is said of a text, and what is to be known of it when a picture that was made of it is judged."""

    verdict: Verdict
    kept: Any = None


class OpenClassifier(Protocol):
    """A classifier that is ready to judge; safe to use from many threads.

    It may raise whatever it likes: what it fails of is refused, each text and picture on its own.
    """

    def screen(self, texts: Sequence[str]) -> Sequence[TextReading]:
        """Return what is said of each of these texts, which may hold halves of characters."""

    def classify(self, pictures: Sequence[np.ndarray], kept: Sequence[Any], *, conditions: bool) -> Sequence[Verdict]:
        """Return what is said of each of these pictures, uint8 [H, W, 3].

        `kept` is what was kept of the reading of each one's prompt, None where there is none. `conditions` says that
        these are what pictures are drawn after, such as edges, in which faults of a finished picture don't count.
        """


class Classifier(Protocol):
    """Names a classifier: a plain value that is sent to lanes, and opened there."""

    @property
    def name(self) -> str:
        """`redness`, of the letters that a concept's name may have: its score `mean` is then called `redness.mean`."""

    @property
    def digest(self) -> str:
        """Another one whenever it could judge otherwise: what is stored is then judged again."""

    def open(self, policy: Policy, *, device: str) -> OpenClassifier:
        """Return it ready to judge by a policy, on a device."""

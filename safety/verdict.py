"""What every check in this room answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused: the closed list that ends up in the catalogue."""

    BLOCKLIST = "blocklist"
    CONCEPT = "concept"
    SCREEN_FAILED = "screen_failed"
    BLANK = "blank"
    OFF_PROMPT = "off_prompt"
    PROFILE = "profile"
    UNMARKED = "unmarked"
    DUPLICATE = "duplicate"
    LAYERS_MISMATCH = "layers_mismatch"
    EMPTY_LAYER = "empty_layer"
    COPIED_LAYER = "copied_layer"
    CLASSIFIER_FAILED = "classifier_failed"


@dataclass(frozen=True)
class Verdict:
    """One answer: allowed, or refused with a reason from the list and a sentence for a person."""

    allowed: bool
    reason: Reason | None = None
    message: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.allowed != (self.reason is None) or self.allowed != (self.message is None):
            raise ValueError("A refusal needs a reason and a message; an allowance has neither.")


def allow(scores: Mapping[str, float] | None = None) -> Verdict:
    """Nothing speaks against it."""
    return Verdict(True, scores=dict(scores or {}))


def refuse(reason: Reason, message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """Something speaks against it, and a person should be able to read what."""
    return Verdict(False, reason, message, dict(scores or {}))


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """Fold several verdicts into one: the first refusal counts, the scores of all are kept."""
    verdicts = list(verdicts)
    scores = {name: score for verdict in verdicts for name, score in verdict.scores.items()}
    refusal = next((verdict for verdict in verdicts if not verdict.allowed), None)
    if refusal is None:
        return allow(scores)
    return Verdict(False, refusal.reason, refusal.message, scores)

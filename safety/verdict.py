"""What every check in this room answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused: the closed list that ends up in the catalogue."""

    BLOCKLIST = "blocklist"
    CONCEPT = "concept"
    REVIEW = "review"  # a person must look
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
    """One answer: allowed, or refused with a reason from the list and a sentence for a person.

    What waits for a person is refused, too, until that person has answered.
    """

    allowed: bool
    reason: Reason | None = None
    message: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    asks: tuple[str, ...] = ()  # the concepts for which a person must look, the one furthest over its limit first

    def __post_init__(self) -> None:
        if self.allowed != (self.reason is None) or self.allowed != (self.message is None):
            raise ValueError("A refusal needs a reason and a message; an allowance has neither.")
        if bool(self.asks) != self.waits:
            raise ValueError("A review needs the concepts that ask for it; nothing else has any.")

    @property
    def waits(self) -> bool:
        """Whether a person must look before it may pass."""
        return self.reason is Reason.REVIEW


def allow(scores: Mapping[str, float] | None = None) -> Verdict:
    """Nothing speaks against it."""
    return Verdict(True, scores=dict(scores or {}))


def refuse(reason: Reason, message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """Something speaks against it, and a person should be able to read what."""
    return Verdict(False, reason, message, dict(scores or {}))


def ask(concepts: Sequence[str], message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """A person must look, because of these concepts; until then it is refused."""
    return Verdict(False, Reason.REVIEW, message, dict(scores or {}), tuple(concepts))


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """Fold several verdicts into one: a block beats a review, and a review beats an allowance.

    The first block counts; reviews are put together, so that a person answers all of them at once. The scores of all
    are kept.
    """
    verdicts = list(verdicts)
    scores = {name: score for verdict in verdicts for name, score in verdict.scores.items()}
    block = next((verdict for verdict in verdicts if not verdict.allowed and not verdict.waits), None)
    if block is not None:
        return Verdict(False, block.reason, block.message, scores)
    waiting = [verdict for verdict in verdicts if verdict.waits]
    if waiting:
        messages = dict.fromkeys(verdict.message or "" for verdict in waiting)
        return ask([*dict.fromkeys(name for verdict in waiting for name in verdict.asks)], " ".join(messages), scores)
    return allow(scores)

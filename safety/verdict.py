"""What every check in this room answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal


class Reason(StrEnum):
    """Why something was refused: the closed list that ends up in the catalogue."""

    BLOCKLIST = "blocklist"
    CONCEPT = "concept"
    REVIEW = "review"  # a person must look
    REVIEW_APPROVED = "review_approved"  # a person let it be made, which the next run does
    REVIEW_REJECTED = "review_rejected"  # a person looked, and refused it
    SCREEN_FAILED = "screen_failed"
    BLANK = "blank"
    OFF_PROMPT = "off_prompt"
    PROFILE = "profile"
    UNMARKED = "unmarked"
    DUPLICATE = "duplicate"
    RETIRED = "retired"  # its row left the manifest
    LAYERS_MISMATCH = "layers_mismatch"
    EMPTY_LAYER = "empty_layer"
    COPIED_LAYER = "copied_layer"
    PRODUCT_CHANGED = "product_changed"  # an edit's result shows another product, or the same one altered
    NOT_CHANGED = "not_changed"  # an edit's result lacks what was asked for
    MOVED = "moved"  # an edit's result has the product elsewhere, or larger or smaller
    CLASSIFIER_FAILED = "classifier_failed"


@dataclass(frozen=True)
class ScoreLimit:
    """What a score was held to: rejected above `most` or below `least`, and left to a person beyond `review`."""

    most: float | None = None
    least: float | None = None
    review: float | None = None

    def finds(self, value: float) -> Literal["within", "asks", "beyond"]:
        """Say where a score is: within its limits, beyond what a person is asked about, or beyond the limit itself."""
        if self._is_past(value, self.most if self.most is not None else self.least):
            return "beyond"
        return "asks" if self._is_past(value, self.review) else "within"

    def _is_past(self, value: float, limit: float | None) -> bool:
        return limit is not None and (value > limit if self.most is not None else value < limit)

    def overshoot(self, value: float) -> float:
        """Return how far a score is beyond its limit, as a share of it; below 0 within."""
        limit = self.most if self.most is not None else self.least or 0.0
        return (value - limit if self.most is not None else limit - value) / max(abs(limit), 1e-6)


@dataclass(frozen=True)
class Verdict:
    """One answer: allowed, or refused with a reason from the list and a sentence for a person.

    What waits for a person is refused, too, until that person has answered.
    """

    allowed: bool
    reason: Reason | None = None
    message: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    asks: Mapping[str, float] = field(default_factory=dict)
    """The concepts for which a person must look, and how far each is over its limit, the furthest first."""
    failed: bool = False
    """The check itself failed, and nothing else spoke against it: it is refused, but nothing is known of it."""
    limits: Mapping[str, ScoreLimit] = field(default_factory=dict)
    """What scores were held to, by their names, where it stands beside them in the catalogue."""

    def __post_init__(self) -> None:
        if self.allowed != (self.reason is None) or self.allowed != (self.message is None):
            raise ValueError("A refusal needs a reason and a message; an allowance has neither.")
        if bool(self.asks) != self.waits:
            raise ValueError("A review needs the concepts that ask for it; nothing else has any.")
        if self.failed and (self.allowed or self.waits):
            raise ValueError("What a check failed of is refused.")

    @property
    def waits(self) -> bool:
        """Whether a person must look before it may pass."""
        return self.reason is Reason.REVIEW


def allow(scores: Mapping[str, float] | None = None) -> Verdict:
    """Return the verdict that nothing speaks against it."""
    return Verdict(True, scores=dict(scores or {}))


def refuse(reason: Reason, message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """Return a refusal, with a message from which a person reads why."""
    return Verdict(False, reason, message, dict(scores or {}))


def fail(reason: Reason, message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """Return the refusal of a check that itself failed: whatever it would have said, this is refused."""
    return Verdict(False, reason, message, dict(scores or {}), failed=True)


def ask(over: Mapping[str, float], message: str, scores: Mapping[str, float] | None = None) -> Verdict:
    """Return a refusal until a person has looked, because these concepts are over their limits by so much."""
    asks = dict(sorted(over.items(), key=lambda one: -one[1]))
    return Verdict(False, Reason.REVIEW, message, dict(scores or {}), asks)


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """Fold several verdicts into one: a block beats a review, and a review beats an allowance.

    The first block counts, and one that a check failed of only where no check blocks; reviews are put together, so that
    a person answers all of them at once. The scores and limits of all are kept.
    """
    verdicts = list(verdicts)
    scores = {name: score for verdict in verdicts for name, score in verdict.scores.items()}
    limits = {name: limit for verdict in verdicts for name, limit in verdict.limits.items()}
    blocks = sorted((one for one in verdicts if not one.allowed and not one.waits), key=lambda one: one.failed)
    waiting = [verdict for verdict in verdicts if verdict.waits]
    if blocks:
        first = blocks[0]
        failed = first.failed and not waiting
        return Verdict(False, first.reason, first.message, scores, failed=failed, limits=limits)
    if waiting:
        messages = dict.fromkeys(verdict.message or "" for verdict in waiting)
        over = sorted(pair for verdict in waiting for pair in verdict.asks.items())  # of a name the largest stays
        return replace(ask(dict(over), " ".join(messages), scores), limits=limits)
    return replace(allow(scores), limits=limits)

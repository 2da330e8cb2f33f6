"""Decisions: what people said of rows that wait for review. Each is written once, and every later run follows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from safety.verdict import Reason, Verdict, allow, ask, refuse
from tasks.manifests.key import digest
from tasks.stores.store import Store

Answer = Literal["approve", "reject", "hold"]  # hold: withdrawn until somebody approves
Of = Literal["input", "picture"]  # what a row is made from, or what was made of it
DONE = {"approve": "approved", "reject": "rejected", "hold": "held back"}
HELD = "takedown"  # what a person is asked about a picture that is held back, beside the policy's concepts


@dataclass(frozen=True)
class Decision:
    """One person's answer."""

    answer: Answer
    of: Of
    concepts: tuple[str, ...]  # of the policy, that the person was asked about
    by: str
    at: datetime
    note: str
    id: str  # of the row that was looked at
    key: str

    @property
    def sentence(self) -> str:
        """Who said what and when."""
        what = "making it" if self.of == "input" else "the picture"
        note = f": “{self.note}”" if self.note else ""
        return f"{self.by} {DONE[self.answer]} {what} on {self.at:%Y-%m-%d at %H:%M} UTC{note}"


@dataclass(frozen=True)
class DecisionHistory:
    """All decisions on one row's key and text, in the order in which they were made.

    A rejection is final. What is held back waits for an approval that comes later. An approval answers the concepts
    that the person was asked about, and no others: not those that a newer policy asks about, and never a block.
    Concepts count by their names: a threshold may move, and phrases may be added, without the same question being asked
    again.
    """

    decisions: tuple[Decision, ...] = ()
    unreadable: str | None = None  # the address of a record that isn't one

    @property
    def any(self) -> bool:
        """Whether anybody has decided anything."""
        return bool(self.decisions or self.unreadable)

    def rejection(self, of: Of) -> Decision | None:
        """Return the decision that refuses it for good."""
        return next((one for one in self.decisions if one.of == of and one.answer == "reject"), None)

    def hold(self, of: Of) -> Decision | None:
        """Return the decision that holds it back, if nobody has approved it since."""
        answers = [one for one in self.decisions if one.of == of and one.answer != "reject"]
        return answers[-1] if answers and answers[-1].answer == "hold" else None

    def approval(self, of: Of, concepts: Sequence[str]) -> Decision | None:
        """Return the last decision of those that, together, answer all these concepts."""
        approvals = [one for one in self.decisions if one.of == of and one.answer == "approve"]
        answered = {name for one in approvals for name in one.concepts}
        return approvals[-1] if approvals and answered.issuperset(concepts) else None

    def ends_waiting(self, of: Of, concepts: Sequence[str]) -> bool:
        """Say whether a row that waits because of these concepts waits no longer."""
        refused = bool(self.unreadable) or self.rejection(of) is not None
        return refused or (self.hold(of) is None and self.approval(of, concepts) is not None)

    def applied(self, of: Of, verdict: Verdict) -> tuple[Verdict, Decision | None]:
        """Return a policy's verdict after what people said, and the decision that it rests on, if it does."""
        if not verdict.allowed and not verdict.waits:
            return verdict, None
        if self.unreadable:
            reason = Reason.SCREEN_FAILED if of == "input" else Reason.CLASSIFIER_FAILED
            return refuse(reason, f"What a person decided can't be read: {self.unreadable}.", verdict.scores), None
        if (no := self.rejection(of)) is not None:
            return refuse(Reason.REVIEW_REJECTED, f"{no.sentence}.", verdict.scores), no
        if (held := self.hold(of)) is not None:
            asks = {**verdict.asks, HELD: 1.0}
            return ask(asks, f"{held.sentence}; it waits to be approved.", verdict.scores), held
        if verdict.waits and (yes := self.approval(of, list(verdict.asks))) is not None:
            return allow(verdict.scores), yes
        return verdict, None


class Decisions:
    """The decisions in a store: `reviews/ab/ab12…/0.json`, `1.json`, …, found by a row's key and text, never listed."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def path(self, key: str, text: str, number: int) -> str:
        """Return where a decision lies. `text` is the row's prompt, or the caption of its source picture."""
        subject = subject_of(key, text)
        return f"reviews/{subject[:2]}/{subject}/{number}.json"

    def on(self, key: str, text: str) -> DecisionHistory:
        """Return what was decided. A record that can't be read is told in the history: it may have been a rejection."""
        found: list[Decision] = []
        while (read := self.store.read(path := self.path(key, text, len(found)))) is not None:
            try:
                found.append(_decision(json.loads(read[0])))
            except (ValueError, TypeError, KeyError):
                return DecisionHistory(tuple(found), self.store.uri_of(path))
        return DecisionHistory(tuple(found))

    def add(self, decision: Decision, text: str, number: int) -> None:
        """Write down a decision as the one of this number.

        Raises:
            Conflict: somebody else's has this number.
        """
        content = json.dumps({**asdict(decision), "at": decision.at.isoformat()}, indent=2)
        self.store.put_once(self.path(decision.key, text, number), content.encode(), content_type="application/json")


def _decision(fields: dict[str, Any]) -> Decision:
    if fields["answer"] not in DONE or fields["of"] not in ("input", "picture"):
        raise ValueError(fields["answer"])
    at = datetime.fromisoformat(fields["at"]).astimezone(UTC)
    said = {name: readable(str(fields[name])) for name in ("by", "note", "id", "key")}
    return Decision(**{**fields, **said, "at": at, "concepts": tuple(map(str, fields["concepts"]))})


def subject_of(key: str, text: str) -> str:
    """Name what a decision is about: the folder in which it lies."""
    return digest(["review", key, text])


def readable(text: str) -> str:
    """Return a text in one line that every table can hold: without the halves of characters that terminals may give."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def text_of(row: dict[str, Any]) -> str:
    """Return the text of a catalogue's row that a decision counts for."""
    return str(row["prompt"] if row["caption"] is None else row["caption"])

"""Reviews: what people decided, in the catalogue: rows that waited are done, refused for good, or may be made."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from safety.verdict import Reason, Verdict, allow, ask
from tasks.catalogue.catalogue import outcomes_in, with_rows
from tasks.ledger.decision import Decision, Decisions, Of, text_of
from tasks.ledger.plan import Known
from tasks.outcome import Status

BY_PEOPLE = (Reason.REVIEW, Reason.REVIEW_APPROVED, Reason.REVIEW_REJECTED)


@dataclass
class Reviews:
    """Brings rows of the catalogue to what people decided on them."""

    decisions: Decisions
    pool: Executor

    def settle(self, mine: pa.Table, before: pa.Table) -> pa.Table:
        """Return the catalogue's rows of a run, as people decided on those that wait or that they decided on before.

        Lanes follow decisions, too. This is for those that were made while the run was going on: whoever makes one
        writes it down first and changes the catalogue then, so it is seen here or it comes after.
        """
        decided = before.filter(touched(before)).column("id").combine_chunks()
        return self.follow(mine, pc.or_(touched(mine), pc.is_in(mine.column("id"), value_set=decided)))

    def follow(self, table: pa.Table, which: pa.ChunkedArray) -> pa.Table:
        """Return the table with these rows, a mask, as people decided on them; those that change have no version."""
        places = pc.indices_nonzero(which).to_pylist()
        rows = outcomes_in(table.take(pa.array(places, pa.int64())))
        followed = list(self.pool.map(self._followed, rows))
        return with_rows(
            table, {place: new for place, old, new in zip(places, rows, followed, strict=True) if new != old}
        )

    def _followed(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as people decided on it; as it was, where nobody did."""
        said = _said(row)
        if said is None:
            return row
        of, verdict = said
        history = self.decisions.on(row["key"], text_of(row))
        verdict, decision = history.applied(of, verdict)
        if decision is None and not history.unreadable:
            return row
        now = {
            **row,
            "reason": verdict.reason,
            "message": verdict.message,
            "retryable": history.unreadable is not None,
            "asks": list(verdict.asks.items()),
            "reviewed_by": decision.by if decision else None,
            "reviewed_at": decision.at if decision else None,
        }
        if of == "picture":
            now["status"] = Status.DONE if verdict.allowed else Status.REJECTED
        elif verdict.allowed and decision is not None:
            now |= {"reason": Reason.REVIEW_APPROVED, "message": to_be_made(decision)}
        return row if now == row else {**now, "finished_at": datetime.now(UTC), "changed_in": None}


def ends_waiting(decisions: Decisions, known: Known) -> bool:
    """Say whether people's decisions end the waiting of a row that the catalogue knows."""
    of: Of = "input" if known.status == Status.BLOCKED else "picture"
    return decisions.on(known.key, known.text).ends_waiting(of, known.asks)


def touched(table: pa.Table) -> pa.ChunkedArray:
    """Return a mask of the rows that wait for a person, or that a person decided on."""
    by_people = pc.is_in(table.column("reason"), value_set=pa.array(BY_PEOPLE, pa.string()))
    return pc.or_(by_people, pc.is_valid(table.column("reviewed_by")))


def to_be_made(decision: Decision) -> str:
    """Return the message of a row whose input was approved."""
    return f"{decision.sentence}; the next run does."


def _said(row: dict[str, Any]) -> tuple[Of, Verdict] | None:
    """Return what the policy said of a row, as far as people may have an answer to that."""
    scores, message = dict(row["scores"] or ()), row["message"]
    match row["status"], row["reason"]:
        case (Status.DONE, None) | (Status.REJECTED, Reason.DUPLICATE):  # which may be published again one day
            return "picture", allow(scores)
        case Status.REJECTED, Reason.REVIEW:
            return "picture", ask(dict(row["asks"]), message, scores)
        case Status.BLOCKED, Reason.REVIEW:
            return "input", ask(dict(row["asks"]), message, scores)
        case Status.BLOCKED, Reason.REVIEW_APPROVED:
            return "input", allow(scores)
    return None

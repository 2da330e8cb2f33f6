"""Reviews: what people decided, in the catalogue: rows that waited are done, refused for good, or may be made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from safety.verdict import Reason, Verdict, allow, ask
from tasks.catalogue import with_rows
from tasks.decision import Decision, Decisions, Of, text_of
from tasks.outcome import Status
from tasks.shelf import QUARANTINE, Shelf
from tasks.store import Store

MOVING_THREADS = 16
BY_PEOPLE = (Reason.REVIEW, Reason.REVIEW_APPROVED, Reason.REVIEW_REJECTED)


@dataclass
class Reviews:
    """Brings rows of the catalogue to what people decided on them, and their pictures to where that wants them."""

    store: Store
    shelf_of: Callable[[dict[str, Any]], Shelf[Any]]
    keys: set[str] = field(default_factory=set)  # of the rows that were changed: see `tasks.places`

    def settle(self, mine: pa.Table, before: pa.Table) -> pa.Table:
        """The catalogue's rows of a run, as people decided on those that wait or that they had decided on before.

        Lanes follow decisions, too. This is for those that were made while the run was going on: whoever makes one
        writes it down first and changes the catalogue then, so it is seen here or it comes after.
        """
        decided = before.filter(touched(before)).column("id").combine_chunks()
        return self.follow(mine, pc.or_(touched(mine), pc.is_in(mine.column("id"), value_set=decided)))

    def follow(self, table: pa.Table, which: pa.ChunkedArray) -> pa.Table:
        """The table with these rows, a mask, as people decided on them."""
        places = pc.indices_nonzero(which).to_pylist()
        rows = table.take(pa.array(places, pa.int64())).to_pylist()
        with ThreadPoolExecutor(MOVING_THREADS) as pool:
            followed = list(pool.map(self._followed, rows))
        changed = {place: new for place, old, new in zip(places, rows, followed, strict=True) if new != old}
        self.keys |= {row["key"] for row in changed.values()}
        return with_rows(table, changed)

    def _followed(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as people decided on it; as it was, where nobody did, or its picture isn't there to be moved."""
        said = _said(row)
        if said is None:
            return row
        of, verdict = said
        ruling = Decisions(self.store).on(row["key"], text_of(row))
        verdict, decision = ruling.applied(of, verdict)
        if decision is None and not ruling.unreadable:
            return row
        now = {
            **row,
            "reason": verdict.reason,
            "message": verdict.message,
            "retryable": ruling.unreadable is not None,
            "asks": list(verdict.asks.items()),
            "reviewed_by": decision.by if decision else None,
            "reviewed_at": decision.at if decision else None,
        }
        if of == "input":
            if verdict.allowed and decision is not None:
                now |= {"reason": Reason.REVIEW_APPROVED, "message": to_be_made(decision)}
        else:
            shelf, status = self.shelf_of(row), Status.DONE if verdict.allowed else Status.REJECTED
            moved = _moved(shelf, shelf.published if verdict.allowed else QUARANTINE, row["key"])
            if moved is None:
                return row
            now |= {"status": status, **moved}
        return row if now == row else {**now, "finished_at": datetime.now(UTC)}


def touched(table: pa.Table) -> pa.ChunkedArray:
    """A mask of the rows that wait for a person, or that a person decided on."""
    by_people = pc.is_in(table.column("reason"), value_set=pa.array(BY_PEOPLE, pa.string()))
    return pc.or_(by_people, pc.is_valid(table.column("reviewed_by")))


def to_be_made(decision: Decision) -> str:
    """The message of a row whose input was approved."""
    return f"{decision.sentence}; the next run does."


def _said(row: dict[str, Any]) -> tuple[Of, Verdict] | None:
    """What the policy said of a row, as far as people may have an answer to that."""
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


def _moved(shelf: Shelf[Any], place: str, key: str) -> dict[str, Any] | None:
    """Where a key's results lie after they were copied there; None where there are none any more."""
    found = shelf.find(key)
    return None if found is None else shelf.copy(found, place, key)

"""Publish: what was judged into the store, then the shard's ledger."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.decision import Ruling
from tasks.outcome import Outcome, Status
from tasks.progress import tell
from tasks.record import Record
from tasks.run import Run
from tasks.shelf import QUARANTINE, Shelf
from tasks.stages import Classified, Found, Judged, Screened, Withdrawn
from tasks.store import Store
from tasks.stream import Stream


@task(name="publish", task_run_name="publish {shard}", cache_policy=NO_CACHE)
def publish(
    shard: int,
    screened: Screened,
    *,
    store: Store,
    shelf: Shelf[Any],
    pool: Executor,
    classified: Stream[Classified],
    record: Record,
) -> dict[str, int]:
    """Store what the rows of a shard gave and commit its ledger; returns how many rows ended in each way.

    What passed goes to the shelf's published place, what was refused to quarantine. The ledger is written when every
    row has ended, so a run that stops before that finds what it made by its keys and judges it again. Nothing is taken
    from where it was: that is done when the catalogue says where it is now.
    """
    try:
        list(pool.map(lambda found: _withdraw(found, shelf), screened.withdrawn))
        outcomes = list(screened.ended)
        tell(outcomes)
        for batch in classified:
            judged = [thing for thing in batch if isinstance(thing, Judged)]
            withdrawn = [thing for thing in batch if isinstance(thing, Withdrawn)]
            list(pool.map(lambda thing: _withdraw(thing.found, shelf), withdrawn))
            ended = [thing for thing in batch if isinstance(thing, Outcome)] + [thing.outcome for thing in withdrawn]
            ended += pool.map(lambda one: _place(one, screened, shelf, record), judged)
            outcomes += ended
            tell(ended)
        Run(record.run).commit(store, shard, outcomes)
    except BaseException:
        classified.abandon()
        raise
    counts = {str(status): sum(outcome.status == status for outcome in outcomes) for status in Status}
    words = ", ".join(f"{rows} {status}" for status, rows in counts.items() if rows)
    get_run_logger().info("Shard %d has ended: %s", shard, words)
    return counts


def _withdraw(found: Found, shelf: Shelf[Any]) -> None:
    """Keep for review what a row that is blocked now gave; the published is cleared when the catalogue says so."""
    if found.place != QUARANTINE:
        shelf.copy(found.place, QUARANTINE, found.planned.key)


def _place(judged: Judged, screened: Screened, shelf: Shelf[Any], record: Record) -> Outcome:
    """Store what one row gave where its verdict and people's decisions want it, and say what became of the row."""
    row_id, key = judged.planned.row.id, judged.planned.key
    verdict, decision = screened.rulings.get(row_id, Ruling()).applied("picture", judged.verdict)
    place = shelf.published if verdict.allowed else QUARANTINE
    store = shelf.describe if judged.stored_at == place else shelf.put
    return record.judged(
        judged.planned,
        Status.DONE if verdict.allowed else Status.REJECTED,
        verdict,
        decision or screened.approved.get(row_id),
        width=judged.width,
        height=judged.height,
        fixes=judged.fixes,
        marks=judged.marks,
        fingerprint=judged.fingerprint,
        seconds=judged.seconds,
        **store(place, key, judged.contents),
    )

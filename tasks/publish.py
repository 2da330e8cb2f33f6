"""Publish: what was judged into the store, then the shard's ledger."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from safety.verdict import Reason
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
    row has ended, so a run that stops before that finds what it made by its keys and judges it again.
    """
    try:
        list(pool.map(lambda found: _withdraw(found, shelf), screened.withdrawn))
        outcomes = list(screened.ended)
        tell(outcomes)
        stale: list[str] = []
        for batch in classified:
            judged = [thing for thing in batch if isinstance(thing, Judged)]
            withdrawn = [thing for thing in batch if isinstance(thing, Withdrawn)]
            list(pool.map(lambda thing: _withdraw(thing.found, shelf), withdrawn))
            ended = [thing for thing in batch if isinstance(thing, Outcome)] + [thing.outcome for thing in withdrawn]
            ended += pool.map(lambda one: _place(one, shelf, record), judged)
            stale += [one.planned.key for one in judged if one.verdict.allowed and one.stored_at == QUARANTINE]
            outcomes += ended
            tell(ended)
        Run(record.run).commit(store, shard, outcomes)
        list(pool.map(lambda key: shelf.remove(QUARANTINE, key), stale))
    except BaseException:
        classified.abandon()
        raise
    counts = {str(status): sum(outcome.status == status for outcome in outcomes) for status in Status}
    words = ", ".join(f"{rows} {status}" for status, rows in counts.items() if rows)
    get_run_logger().info("Shard %d has ended: %s", shard, words)
    return counts


def _withdraw(found: Found, shelf: Shelf[Any]) -> None:
    """Keep for review what a row that is blocked now gave; the published is cleared when the catalogue says so."""
    key = found.planned.key
    if found.place == QUARANTINE:
        return
    try:
        contents = shelf.read(found.place, key)
    except ValueError:
        return
    shelf.put(QUARANTINE, key, contents)


def _place(judged: Judged, shelf: Shelf[Any], record: Record) -> Outcome:
    """Store what one row gave where its verdict wants it, and say what became of the row."""
    verdict, key = judged.verdict, judged.planned.key
    place = shelf.published if verdict.allowed else QUARANTINE
    store = shelf.describe if judged.stored_at == place else shelf.put
    return record.outcome(
        judged.planned,
        Status.DONE if verdict.allowed else Status.REJECTED,
        reason=verdict.reason,
        message=verdict.message,
        retryable=verdict.reason == Reason.CLASSIFIER_FAILED,
        width=judged.width,
        height=judged.height,
        scores={name: float(score) for name, score in verdict.scores.items()},
        fixes=judged.fixes,
        marks=judged.marks,
        fingerprint=judged.fingerprint,
        seconds=judged.seconds,
        **store(place, key, judged.contents),
    )

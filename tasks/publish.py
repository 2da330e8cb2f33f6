"""Publish: pictures into the store as they are judged, then the shard's ledger."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from safety.verdict import Reason
from tasks.classify import Classified, Judged
from tasks.encoding import Encoding
from tasks.key import path_of
from tasks.outcome import Outcome, Status
from tasks.progress import tell
from tasks.record import Record
from tasks.run import Run
from tasks.screen import IMAGES, QUARANTINE, Found, Screened
from tasks.store import Store
from tasks.stream import Stream


@task(name="publish", task_run_name="publish {shard}", cache_policy=NO_CACHE)
def publish(
    shard: int,
    screened: Screened,
    *,
    store: Store,
    pool: Executor,
    encoding: Encoding,
    classified: Stream[Classified],
    record: Record,
) -> dict[str, int]:
    """Upload the pictures of a shard and commit its ledger; returns how many rows ended in each way.

    A picture that passed goes to `images/`, one that was refused to `quarantine/`. The ledger is written when every
    row has ended, so a run that stops before that finds the pictures by their keys and judges them again.
    """
    try:
        list(pool.map(lambda found: _withdraw(found, store, encoding), screened.withdrawn))
        outcomes = list(screened.blocked)
        tell(outcomes)
        stale: list[str] = []
        for batch in classified:
            judged = [thing for thing in batch if isinstance(thing, Judged)]
            ended = [thing for thing in batch if isinstance(thing, Outcome)]
            ended += pool.map(lambda picture: _place(picture, store, encoding, record), judged)
            stale += [
                p.stored_at for p in judged if p.verdict.allowed and p.stored_at and p.stored_at.startswith(QUARANTINE)
            ]
            outcomes += ended
            tell(ended)
        Run(record.run).commit(store, shard, outcomes)
        list(pool.map(store.delete, stale))
    except BaseException:
        classified.abandon()
        raise
    counts = {str(status): sum(outcome.status == status for outcome in outcomes) for status in Status}
    words = ", ".join(f"{rows} {status}" for status, rows in counts.items() if rows)
    get_run_logger().info("Shard %d has ended: %s", shard, words)
    return counts


def _withdraw(found: Found, store: Store, encoding: Encoding) -> None:
    """Keep for review the picture of a prompt that is blocked now; `images/` is cleared when the catalogue says so."""
    read = store.read(found.path)
    if read is not None:
        path = path_of(QUARANTINE, found.planned.key, encoding.extension)
        store.adopt_or_put(path, read[0], content_type=encoding.content_type)


def _place(picture: Judged, store: Store, encoding: Encoding, record: Record) -> Outcome:
    """Store one picture where its verdict wants it, and say what became of its row."""
    verdict = picture.verdict
    path = path_of(IMAGES if verdict.allowed else QUARANTINE, picture.planned.key, encoding.extension)
    if picture.stored_at == path:
        size, sha256 = len(picture.data), hashlib.sha256(picture.data).hexdigest()
    else:
        stored = store.adopt_or_put(path, picture.data, content_type=encoding.content_type)
        size, sha256 = stored.size, stored.sha256
    return record.outcome(
        picture.planned,
        Status.DONE if verdict.allowed else Status.REJECTED,
        reason=verdict.reason,
        message=verdict.message,
        retryable=verdict.reason == Reason.CLASSIFIER_FAILED,
        uri=store.uri_of(path),
        width=picture.width,
        height=picture.height,
        format=encoding.format,
        bytes=size,
        sha256=sha256,
        scores={name: float(score) for name, score in verdict.scores.items()},
        seconds=picture.seconds,
    )

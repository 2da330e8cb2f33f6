"""Keep: what was judged as masters in the store, then the shard's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.lane.bounded_queue import BoundedQueue
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.stages import Classified, Made, Screened, Stages, StoredRow
from tasks.ledger.decision import DecisionHistory
from tasks.ledger.run import Run
from tasks.outcome import Outcome, Status
from tasks.progress import tell
from tasks.stores.store import Store


@task(name="keep", task_run_name="keep {shard}", cache_policy=NO_CACHE)
def keep(
    shard: int,
    screened: Screened,
    *,
    store: Store,
    stages: Stages,
    pool: Executor,
    classified: BoundedQueue[Classified],
    recorder: OutcomeRecorder,
) -> dict[str, int]:
    """Store what the rows of a shard gave and commit its ledger; return how many rows ended in each way.

    Whatever was made is kept, passed or refused, and nothing is published: that is for the end of the run, when the
    catalogue says so. The ledger is written when every row has ended, so a run that stops before that finds what it
    made by its keys and judges it again.
    """
    try:
        outcomes = list(screened.ended)
        tell(outcomes)
        for batch in classified:
            ended = kept(batch, screened, stages=stages, pool=pool, recorder=recorder)
            outcomes += ended
            tell(ended)
        Run(recorder.run).commit(store, shard, outcomes)
    except BaseException:
        classified.abandon()
        raise
    counts = {str(status): sum(outcome.status == status for outcome in outcomes) for status in Status}
    words = ", ".join(f"{rows} {status}" for status, rows in counts.items() if rows)
    get_run_logger().info("Shard %d has ended: %s", shard, words)
    return counts


def kept(
    batch: Classified, screened: Screened, *, stages: Stages, pool: Executor, recorder: OutcomeRecorder
) -> list[Outcome]:
    """Make masters of what was made, and say what became of every row.

    Where another run was first to make one of the same key, what that one made is judged, not what this one did.
    """
    ended = [thing for thing in batch if isinstance(thing, Outcome)]
    judged = [thing for thing in batch if isinstance(thing, Made)]
    standing = list(pool.map(lambda one: _master(one, stages), judged))
    ended += [_outcome(one, screened, stages, recorder) for one in standing if isinstance(one, Made)]
    others: Sequence[StoredRow] = [one for one in standing if isinstance(one, StoredRow)]
    if others:
        ended += kept(stages.classify([*others], screened), screened, stages=stages, pool=pool, recorder=recorder)
    return ended


def _master(judged: Made, stages: Stages) -> Made | StoredRow:
    """Return what was judged, with the master that holds it; or the master that somebody else made meanwhile."""
    if judged.master is not None:
        return judged
    master, holds_it = stages.shelf.keep(judged.row.key, judged.contents)
    return replace(judged, master=master) if holds_it else StoredRow(judged.row, master)


def _outcome(judged: Made, screened: Screened, stages: Stages, recorder: OutcomeRecorder) -> Outcome:
    """Return what became of a row, by its verdict and people's decisions."""
    row_id = judged.row.id
    verdict, decision = screened.histories.get(row_id, DecisionHistory()).applied("picture", judged.verdict)
    assert judged.master is not None
    return recorder.judged(
        judged.row,
        Status.DONE if verdict.allowed else Status.REJECTED,
        verdict,
        decision or screened.approved.get(row_id),
        width=judged.pixels.shape[-2],
        height=judged.pixels.shape[-3],
        fixes=[*judged.fixes],
        marks=[*map(str, judged.marks)],
        fingerprint=judged.fingerprint,
        seconds=judged.seconds,
        **stages.shelf.said(judged.master),
    )

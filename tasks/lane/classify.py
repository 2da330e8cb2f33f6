"""Classify: what safety and the marketplace say of what was made."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.lane.bounded_queue import BoundedQueue
from tasks.lane.stages import Classified, Made, Rendered, Screened, Stages


@task(name="classify", task_run_name="classify {shard}", cache_policy=NO_CACHE)
def classify(
    shard: int,  # noqa: ARG001  names the task run
    screened: Screened,
    *,
    stages: Stages,
    rendered: BoundedQueue[Rendered],
    out: BoundedQueue[Classified],
) -> int:
    """Judge the rows of a shard as they come; returns how many passed."""
    passed = 0
    try:
        for batch in rendered:
            judged = stages.classify(batch, screened)
            out.put(judged)
            passed += sum(isinstance(thing, Made) and thing.verdict.allowed for thing in judged)
        out.close()
    except BaseException:
        rendered.abandon()
        out.abandon()
        raise
    return passed

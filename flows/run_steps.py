"""The steps of every kind's flow: plan, lane, finish."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.orchestration.artifacts import publish_summary
from flows.orchestration.beginning import Beginning, taken_over
from flows.orchestration.ending import ending
from flows.orchestration.final_state import final_state, stopped_state
from flows.orchestration.telling import PrefectNotifier, telling_progress
from models.lost_device import DeviceLost
from tasks.job import Job
from tasks.lane.shard_queue import OnlyLane
from tasks.outcome import Retry
from tasks.processes.process import this_process
from tasks.processes.stopping import Stopped, stopping_in_order
from tasks.progress import tell_start
from tasks.reports.summary import Summary
from tasks.runs import finish as finishing
from tasks.runs.lane import lane
from tasks.runs.lane_count import needs_ray
from tasks.runs.prepare import Prepared, RunRequest, prepare
from tasks.stores.store import StoreError

finish = task(name="finish", task_run_name="finish", cache_policy=NO_CACHE)(finishing.finish)


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE)
def plan(request: RunRequest) -> Beginning:
    """Prepare a run, unless the command has done so before there was a server to tell."""
    started_at = datetime.now(UTC)
    return taken_over(request) or Beginning(request, prepare(request), started_at)


def run_manifest(job: Job, limit: int | None, retry: tuple[Retry, ...], *, retire_missing: bool = False) -> State[Any]:
    """Take the rows of a job's manifest to their ends, and say how that went; called inside a flow."""
    with PrefectNotifier() as telling:
        try:
            ending.summary = _run_steps(RunRequest(job, limit, frozenset(retry), retire_missing), telling)
        except BaseException as error:
            ending.error = error
            if not isinstance(error, Stopped):
                raise
            return stopped_state()
        finally:
            telling.hurry()
    return final_state(ending.summary, job.output.fail_beyond)


def take_through_lanes(prepared: Prepared, telling: PrefectNotifier) -> Sequence[str]:
    """Take the shards that are left of a run to their ledgers; returns what a person should know, in sentences."""
    if needs_ray(prepared.spec.hardware):
        from flows.lanes.ray_run import take_through_ray  # an extra

        return take_through_ray(prepared, telling)
    with this_process().threads() as pool:
        lane(0, prepared.spec, OnlyLane(prepared.run.left(prepared.store, range(prepared.shards), pool)))
    return ()


def _run_steps(request: RunRequest, telling: PrefectNotifier) -> Summary:
    beginning = plan(request)
    prepared, started_at = beginning.prepared, beginning.started_at
    tell_start(prepared.to_do, prepared.ended)
    try:
        with stopping_in_order():
            of_lanes: Sequence[str] = ()
            if not prepared.complete:
                with telling_progress(telling, prepared):
                    try:
                        of_lanes = take_through_lanes(prepared, telling)
                    except (Stopped, DeviceLost):
                        finish(prepared, started_at=started_at)
                        raise
            summary = finish(prepared, started_at=started_at, untold=[*of_lanes, *telling.sentences])
    except BaseException:
        with contextlib.suppress(StoreError):
            prepared.leave()
        raise
    publish_summary(telling, summary)
    return summary

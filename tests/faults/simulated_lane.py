"""Lanes that draw nothing, in other processes: an engine of a fixed rate, without torch, that does as a test says.

What a lane is to do lies in files beside its store: `hold` (begin with no shard until that is gone), `fail.NODE` (lose
the GPU of that node; whoever does so for the last time removes `hold`), `hang` (get on with nothing; whoever finds the
file removes it), `mute` (tell Prefect that the lane has begun, and nothing more).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound

from flows.lanes.dispatcher import MOST_LOSSES, LaneHistory, Progress
from flows.lanes.node_check import Needs, code_digest
from flows.lanes.ray_cluster import joined_cluster
from flows.lanes.ray_lanes import RayLanes
from flows.lanes.task_runs import ending_lost
from flows.orchestration.telling import PrefectNotifier, telling_progress
from models.lost_device import DeviceLost
from tasks.job import GenerateJob
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.shard_queue import ShardSource
from tasks.ledger.run import Run
from tasks.outcome import Status
from tasks.processes.stopping import Stopped, stop, stopping_in_order
from tasks.progress import listener, tell
from tasks.runs.lane import fetched_plan
from tasks.runs.prepare import Prepared, RunRequest, prepare
from tasks.stores.opening import open_store
from tests.waiting import wait_for

SECONDS_A_ROW = 0.02
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_BETWEEN_SIGNS = 0.5

hanging = threading.Event()  # that this process is to get on with nothing


def orders(store: str) -> Path:
    """The folder of what lanes are to do, and of who they are: `began.LANE.PROCESS`."""
    return Path(store).with_name("orders")


def flow_name(job: GenerateJob) -> str:
    """The name that Prefect has of the flow of a job."""
    return f"simulated {Path(job.store).parent.name}"


@task(name="render", task_run_name="render {shard}", cache_policy=NO_CACHE)
def draw(shard: int, spec: LaneSpec, rows: list[Any]) -> None:
    """Take as long as rows do, and write a ledger in which each was refused."""
    time.sleep(SECONDS_A_ROW * len(rows))
    record = OutcomeRecorder(spec.run, spec.model, "prompt")
    outcomes = [record.outcome(row, Status.BLOCKED, reason="blocklist", message="It is only a test.") for row in rows]
    Run(spec.run).commit(open_store(spec.store, dialect=spec.dialect), shard, outcomes)
    tell(outcomes)


@task(name="lane", task_run_name="lane {number}", cache_policy=NO_CACHE)
def simulated_lane(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Take shards to their ledgers."""
    folder, done = orders(spec.store), 0
    if (folder / "mute").exists():
        wait_for(_is_recorded)
        EventsWorker.send = _nothing  # type: ignore[method-assign]
    (folder / f"began.{number}.{os.getpid()}").touch()
    with fetched_plan(spec, open_store(spec.store, dialect=spec.dialect)) as plan:
        while not stop.is_set() and (shard := shards.take()) != "over":
            if isinstance(shard, int):
                _obey(folder)
                draw(shard, spec, plan.shard(shard))
                shards.end(shard)
                done += 1
            else:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    if stop.is_set():
        raise Stopped
    return done


def _is_recorded() -> bool:
    """Say whether Prefect's record has the task run that this is."""
    context = TaskRunContext.get()
    assert context is not None
    with get_client(sync_client=True) as client:
        try:
            return client.read_task_run(context.task_run.id).state is not None
        except ObjectNotFound:
            return False


def _nothing(_: EventsWorker, __: object) -> None:
    """Tell nobody."""


def run_simulated(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Work as a simulated lane; a plain function travels by its name."""
    with _getting_on():
        return simulated_lane(number, spec, shards)


@contextmanager
def _getting_on() -> Iterator[None]:
    """Have it known that this lane gets on, until it hangs: on a busy machine its start alone would look like that."""
    hears, over = listener.get(), threading.Event()
    assert hears is not None

    def tell_so() -> None:
        while not over.wait(SECONDS_BETWEEN_SIGNS) and not hanging.is_set():
            hears([])

    thread = threading.Thread(target=tell_so, name="getting on", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _obey(folder: Path) -> None:
    failing = folder / f"fail.{ray.get_runtime_context().get_node_id()}"
    if failing.exists():
        with failing.open("a") as times:
            times.write("x")
        if failing.stat().st_size == MOST_LOSSES:
            (folder / "hold").unlink()
        raise DeviceLost("CUDA error: uncorrectable ECC error encountered")
    try:
        (folder / "hang").unlink()
    except FileNotFoundError:
        while (folder / "hold").exists() and not stop.is_set():
            time.sleep(SECONDS_BETWEEN_LOOKS)
    else:
        hanging.set()
        time.sleep(1000)


def through_ray(job: GenerateJob) -> tuple[Prepared, Progress, list[LaneHistory]]:
    """Take the rows of a job through lanes on a cluster; returns how they got on, and what became of each."""

    @flow(name=flow_name(job))
    def run() -> tuple[Progress, list[LaneHistory]]:
        with (
            PrefectNotifier() as telling,
            ending_lost(telling) as hear_lost,
            joined_cluster(job.hardware) as cluster,
            stopping_in_order(),
            telling_progress(telling, prepared),
        ):
            lanes = RayLanes(
                cluster,
                prepared.spec,
                list(range(prepared.shards)),
                Needs(code_digest(), (), None),
                hear_lost=hear_lost,
                silent_after=6,
                run=run_simulated,
            )
            return lanes.work(), lanes.histories()

    prepared = prepare(RunRequest(job, None, frozenset()))
    return prepared, *run()


def main() -> None:
    """Be a command whose lanes are on this machine, with a job as its argument; 130 where it is stopped."""
    job = GenerateJob.model_validate_json(sys.argv[1])
    try:
        through_ray(job)
    except Stopped:
        os._exit(130)

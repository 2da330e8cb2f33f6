"""Lanes that tint pictures, in other processes, and that wait until a test has seen them.

A kind that the project doesn't have is unknown in a process that Ray starts: a lane of it begins by naming it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from prefect import flow

from flows.lanes.dispatcher import LaneHistory
from flows.lanes.node_check import needs_of
from flows.lanes.ray_cluster import joined_cluster
from flows.lanes.ray_lanes import RayLanes
from flows.lanes.task_runs import ending_lost
from flows.orchestration.telling import PrefectNotifier
from tasks.job_sections import HardwareSection
from tasks.kinds.registry import registered
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.shard_queue import Nothing, ShardSource
from tasks.processes.stopping import stop
from tasks.runs.lane import lane
from tasks.runs.prepare import Prepared, RunRequest, prepare
from tests.kinds.tint import TINT, TintJob

GO = "go"  # the file that lets lanes go on
TORCH = "torch"  # the file that says that a lane has imported it, which takes ten seconds of a core


class Gate:
    """Shards of which a lane's first is held until the test says so: its file names the lane and its process."""

    def __init__(self, shards: ShardSource, number: int, folder: Path) -> None:
        self._shards, self._number, self._folder = shards, number, folder

    def take(self, *, ahead: bool = False) -> int | Nothing:
        """Give the next shard."""
        taken = self._shards.take(ahead=ahead)
        if isinstance(taken, int) and not ahead:
            (self._folder / f"{self._number}.{os.getpid()}").touch()
            while not (self._folder / GO).exists() and not stop.is_set():
                time.sleep(0.05)
        return taken

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written."""
        self._shards.end(shard)


def gates(job: TintJob) -> Path:
    """Where the files of a job's lanes are."""
    return Path(job.store).with_name("gates")


def tint_lane(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Work as a lane does, of a kind that is named here."""
    folder = Path(spec.store).with_name("gates")
    with registered(TINT):
        done = lane(number, spec, Gate(shards, number, folder))
    if "torch" in sys.modules:
        (folder / TORCH).touch()
    return done


def through_ray(job: TintJob, hardware: HardwareSection) -> tuple[Prepared, list[LaneHistory]]:
    """Take the rows of a job through lanes on a cluster; returns what became of these."""

    @flow(name="tint on Ray")
    def run() -> list[LaneHistory]:
        with PrefectNotifier() as telling, ending_lost(telling) as hear_lost:
            needs = needs_of(prepared.spec, None)
            lanes = RayLanes(cluster, prepared.spec, shards, needs, hear_lost=hear_lost, silent_after=6, run=tint_lane)
            lanes.work()
            return lanes.histories()

    with registered(TINT):
        prepared = prepare(RunRequest(job, None, frozenset()))
        with joined_cluster(hardware) as cluster:
            shards = list(range(prepared.shards))
            return prepared, run()

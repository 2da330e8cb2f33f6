"""A command of which one lane's GPU fails after its first shard, in each of its processes: see `benchmarks.lanes`.

    python -m benchmarks.failing_lane generate manifest.parquet --store out --lanes 2

The lane with the highest number is the one; an exception stands for what the driver would say.
"""

from __future__ import annotations

import os
from functools import partial

from benchmarks.lanes import FAILING
from flows.command import main
from flows.lanes import ray_run
from flows.lanes.ray_lanes import RayLanes, product_lane
from models.lost_device import DeviceLost
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.shard_queue import Nothing, ShardSource


class FailingSource:
    """Shards of which the third one ends the GPU: it is asked for ahead, when the first one is drawn."""

    def __init__(self, shards: ShardSource) -> None:
        self._shards, self._given = shards, 0

    def take(self, *, ahead: bool = False) -> int | Nothing:
        """Give the next shard, but for the third.

        Raises:
            DeviceLost: instead of that.
        """
        if self._given == 2:
            raise DeviceLost("CUDA error: uncorrectable ECC error encountered (simulated)")
        taken = self._shards.take(ahead=ahead)
        self._given += isinstance(taken, int)
        return taken

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written."""
        self._shards.end(shard)


def run_lane(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Work as a lane does, until its GPU fails if it is the one."""
    return product_lane(number, spec, FailingSource(shards) if str(number) == os.environ.get(FAILING) else shards)


if __name__ == "__main__":
    from benchmarks import failing_lane  # what travels to other processes is named by its module

    ray_run.RayLanes = partial(RayLanes, run=failing_lane.run_lane)  # type: ignore[misc,assignment]
    main()

"""The Ray cluster that lanes run on: one that a person names, or one of the command's own on this machine."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.errors import RequestError
from tasks.job_sections import HardwareSection
from tasks.runs.lane_count import gpus_here, lanes_here

OBJECTS = 128 << 20  # bytes that Ray keeps for what travels: plans and counts, never pictures
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined."""

    address: str | None  # None: the command's own, on this machine
    dashboard: str | None  # the address of its page, where it has one
    wants: str  # how many lanes, as the job says
    on_gpus: bool  # each lane takes a GPU; else a core

    def lanes(self) -> int:
        """Return how many lanes there are to be now; with `auto` that follows the cluster."""
        import ray

        if self.wants != "auto":
            return int(self.wants)
        found = ray.cluster_resources()
        return int(found.get("GPU", 0)) if self.on_gpus else len([node for node in ray.nodes() if node["Alive"]])


@contextmanager
def joined_cluster(hardware: HardwareSection) -> Iterator[Cluster]:
    """Join the cluster that a job names, or bring up one on this machine for as long as the block runs.

    Ray takes signals for itself when it starts (2.60); they stay with who had them.

    Raises:
        RequestError: if there is no such cluster, or it doesn't fit this process, or has no GPU for `auto`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    before = {number: signal.getsignal(number) for number in SIGNALS}
    on_gpus_here = hardware.device != "cpu" and gpus_here() > 0
    options = (
        {"address": hardware.ray}
        if hardware.ray is not None
        else {
            "address": "local",
            "num_cpus": max(lanes_here(hardware), os.cpu_count() or 1),
            "num_gpus": gpus_here() if on_gpus_here else 0,
            "object_store_memory": OBJECTS,
            "include_dashboard": False,
        }
    )
    try:
        context = ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise RequestError(f"The Ray cluster {hardware.ray or 'on this machine'} can't be joined: {said}") from error
    finally:
        _give_back_signals(before)
    try:
        on_gpus = hardware.device != "cpu" and (hardware.ray is None or "GPU" in ray.cluster_resources())
        on_gpus = on_gpus and (hardware.ray is not None or on_gpus_here)
        cluster = Cluster(
            hardware.ray, context.dashboard_url or None, hardware.lanes, on_gpus or hardware.device == "cuda"
        )
        if cluster.lanes() == 0:
            raise RequestError(
                f"The Ray cluster {hardware.ray} has no GPU now, so --lanes auto are none",
                "give a number, and a cluster that grows brings up so many.",
            )
        yield cluster
    finally:
        ray.shutdown()


def _give_back_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)

"""The nodes of a cluster, each asked what it lacks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flows.lanes.node_check import Needs, lacking, machine
from tasks.processes.stopping import Stopped, stop

NODE_SECONDS = 45.0  # for a node's first process to be up and answer
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Node:
    """A node that is there now."""

    machine: str
    gpus: int
    lacks: tuple[str, ...]  # clauses


def ask_nodes(needs: Needs) -> list[Node]:
    """Ask every node that is there what it lacks; one that doesn't answer lacks packshot, or more.

    Raises:
        Stopped: if somebody asked for it meanwhile.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    looks = [_look_at(node["NodeID"], needs) for node in alive]
    _wait_for(looks)
    return [_answer(node, look) for node, look in zip(alive, looks, strict=True)]


def _look_at(node: str, needs: Needs) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(needs)


def _look(needs: Needs) -> tuple[str, tuple[str, ...]]:
    return machine(), tuple(lacking(needs))


def _wait_for(looks: list[Any]) -> None:
    """Wait until all nodes have answered, or have had the time for it, side by side."""
    deadline, left = time.monotonic() + NODE_SECONDS, looks
    while left and time.monotonic() < deadline:
        if stop.is_set():
            raise Stopped
        _, left = ray.wait(left, num_returns=len(left), timeout=0)
        time.sleep(SECONDS_BETWEEN_LOOKS if left else 0)  # not within Ray, which doesn't hear of `stop`


def _answer(node: dict[str, Any], look: Any) -> Node:
    gpus = int(node["Resources"].get("GPU", 0))
    try:
        name, lacks = ray.get(look, timeout=0)
    except GetTimeoutError:
        return Node(node["NodeManagerHostname"], gpus, (f"it hasn't answered in {NODE_SECONDS:g} seconds",))
    except (RayError, ImportError) as error:
        why = "packshot isn't installed there" if "ModuleNotFoundError" in str(error) else str(error).splitlines()[-1]
        return Node(node["NodeManagerHostname"], gpus, (why,))
    return Node(name, gpus, lacks)

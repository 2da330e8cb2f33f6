"""The nodes of a cluster, each asked what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flows.lanes.node_check import Needs, lacking, machine

NODE_SECONDS = 45.0  # for a node's first process to be up and answer


@dataclass(frozen=True)
class Node:
    """A node that is there now."""

    machine: str
    gpus: int
    lacks: tuple[str, ...]  # clauses


def ask_nodes(needs: Needs) -> list[Node]:
    """Ask every node that is there what it lacks; one that doesn't answer lacks packshot, or more."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    looks = [_look_at(node["NodeID"], needs) for node in alive]
    return [_answer(node, look) for node, look in zip(alive, looks, strict=True)]


def _look_at(node: str, needs: Needs) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(needs)


def _look(needs: Needs) -> tuple[str, tuple[str, ...]]:
    return machine(), tuple(lacking(needs))


def _answer(node: dict[str, Any], look: Any) -> Node:
    gpus = int(node["Resources"].get("GPU", 0))
    try:
        name, lacks = ray.get(look, timeout=NODE_SECONDS)
    except GetTimeoutError:
        return Node(node["NodeManagerHostname"], gpus, (f"it hasn't answered in {NODE_SECONDS:g} seconds",))
    except (RayError, ImportError) as error:
        why = "packshot isn't installed there" if "ModuleNotFoundError" in str(error) else str(error).splitlines()[-1]
        return Node(node["NodeManagerHostname"], gpus, (why,))
    return Node(name, gpus, lacks)

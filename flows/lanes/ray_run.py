"""A run's shards, taken to their ledgers by lanes on Ray."""

from __future__ import annotations

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.settings import PREFECT_API_URL
from ray.exceptions import RayError

from flows.lanes.node_check import Needs, needs_of
from flows.lanes.nodes import ask_nodes
from flows.lanes.ray_cluster import Cluster, joined_cluster
from flows.lanes.ray_lanes import RayLanes, documents, left_out
from flows.lanes.task_runs import ending_lost
from flows.orchestration.telling import PrefectNotifier
from tasks.errors import RequestError
from tasks.ledger.run import write_json
from tasks.processes.process import this_process
from tasks.progress import remark
from tasks.runs.lane import fetched_plan
from tasks.runs.prepare import Prepared


def take_through_ray(prepared: Prepared, telling: PrefectNotifier) -> list[str]:
    """Have lanes on Ray take the shards that are left, the largest first.

    Returns what a person should know of it, in sentences. Raises what `RayLanes.work` does.
    """
    store, run, spec = prepared.store, prepared.run, prepared.spec
    # Lost processes' task runs are ended after Ray: what they told last may come late.
    with ending_lost(telling) as hear_lost, joined_cluster(spec.hardware) as cluster:
        tell_dashboard(telling, cluster)
        needs = needs_of(spec, PREFECT_API_URL.value())
        if cluster.address is not None:
            check_nodes(needs, on_gpus=cluster.on_gpus)
            remark(waiting(cluster))
        with fetched_plan(spec, store) as plan, this_process().threads() as pool:
            shards = list(run.left(store, plan.largest_first(), pool))
        lanes = RayLanes(cluster, spec, shards, needs, hear_lost=hear_lost)
        try:
            progress = lanes.work()
        finally:
            with suppress(RayError):  # the cluster is gone, and what it knew
                write_json(store, run.lanes_path, {"lanes": documents(lanes.histories())})
        return [*left_out(progress), *never_begun(lanes, cluster)]


def waiting(cluster: Cluster) -> str | None:
    """Say which lanes wait for the cluster to grow, if any do."""
    wanted, room = cluster.lanes(), cluster.room
    if wanted <= room:
        return None
    return (
        f"The Ray cluster {cluster.address} has {cluster.places} now: {wanted - room} of {wanted} lanes wait until it "
        "has grown."
    )


def never_begun(lanes: RayLanes, cluster: Cluster) -> list[str]:
    """Say of how many lanes of a cluster nothing was heard, if of any."""
    begun, wanted = len(lanes.histories()), cluster.lanes()
    if cluster.address is None or begun >= wanted:
        return []
    return [
        f"{wanted - begun} of {wanted} lanes hadn't begun when all was done: the cluster had no place free for them, "
        "or was still bringing them up."
    ]


def check_nodes(needs: Needs, *, on_gpus: bool) -> None:
    """Check that lanes can work on every node that they may be placed on.

    Raises:
        RequestError: if one lacks something.
    """
    nodes = [node for node in ask_nodes(needs) if node.gpus or not on_gpus]
    lacking = [f"{node.machine}: {'; '.join(node.lacks)}" for node in nodes if node.lacks]
    if lacking:
        raise RequestError(f"Lanes can't work on every node of the cluster. {'. '.join(lacking)}.")


def tell_dashboard(telling: PrefectNotifier, cluster: Cluster) -> None:
    """Leave the way to Ray's own page, where it has one."""
    if cluster.dashboard is None:
        return
    artifact = ArtifactCreate(
        type="markdown", data=f"[Ray](http://{cluster.dashboard})", flow_run_id=telling.flow_run_id
    )

    def tell(client: SyncPrefectClient) -> None:
        client.create_artifact(artifact)

    telling.attempt(tell)

"""A run's shards, taken to their ledgers by lanes on Ray."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.settings import PREFECT_API_URL

from flows.lanes.node_check import Needs, needs_of
from flows.lanes.nodes import ask_nodes
from flows.lanes.ray_cluster import Cluster, joined_cluster
from flows.lanes.ray_lanes import RayLanes, documents, left_out
from flows.orchestration.telling import PrefectNotifier
from tasks.errors import RequestError
from tasks.ledger.run import write_json
from tasks.processes.process import this_process
from tasks.runs.lane import fetched_plan
from tasks.runs.prepare import Prepared


def take_through_ray(prepared: Prepared, telling: PrefectNotifier) -> list[str]:
    """Have lanes on Ray take the shards that are left, the largest first.

    Returns what a person should know of it, in sentences. Raises what `RayLanes.work` does.
    """
    store, run, spec = prepared.store, prepared.run, prepared.spec
    with joined_cluster(spec.hardware) as cluster:
        _tell_dashboard(telling, cluster)
        needs = needs_of(spec, PREFECT_API_URL.value())
        if cluster.address is not None:
            check_nodes(needs, on_gpus=cluster.on_gpus)
        with fetched_plan(spec, store) as plan, this_process().threads() as pool:
            shards = list(run.left(store, plan.largest_first(), pool))
        lanes = RayLanes(cluster, spec, shards, needs)
        try:
            progress = lanes.work()
        finally:
            write_json(store, run.lanes_path, {"lanes": documents(lanes.histories())})
        return left_out(progress)


def check_nodes(needs: Needs, *, on_gpus: bool) -> None:
    """Check that lanes can work on every node that they may be placed on.

    Raises:
        RequestError: if one lacks something.
    """
    nodes = [node for node in ask_nodes(needs) if node.gpus or not on_gpus]
    lacking = [f"{node.machine}: {'; '.join(node.lacks)}" for node in nodes if node.lacks]
    if lacking:
        raise RequestError(f"Lanes can't work on every node of the cluster. {'. '.join(lacking)}.")


def _tell_dashboard(telling: PrefectNotifier, cluster: Cluster) -> None:
    """Leave the way to Ray's own page, where it has one."""
    if cluster.dashboard is None:
        return
    artifact = ArtifactCreate(
        type="markdown", data=f"[Ray](http://{cluster.dashboard})", flow_run_id=telling.flow_run_id
    )

    def tell(client: SyncPrefectClient) -> None:
        client.create_artifact(artifact)

    telling.attempt(tell)

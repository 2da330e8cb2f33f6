"""Lanes in a real Ray cluster on this machine: whatever becomes of them, every shard ends, and Prefect knows of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import State, StateType, TaskRun

from flows.orchestration.telling import PrefectNotifier
from flows.run_steps import lane
from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.job_sections import HardwareSection
from tasks.kinds.registry import registered
from tasks.lane.shard_queue import OnlyLane
from tasks.processes.stopping import WITHIN, Stopped, ask_to_stop, stop
from tasks.runs.finish import finish
from tasks.runs.prepare import Prepared, RunRequest, prepare
from tasks.stores.opening import open_store
from tests.end_to_end.conftest import catalogue, prefect_api
from tests.kinds.mugs import LETS_PASS, POLICY, mug
from tests.kinds.tint import TINT, TintJob
from tests.waiting import wait_for

__all__ = ["prefect_api"]  # fixture

pytest.importorskip("ray", reason="Ray isn't installed: pip install 'packshot[ray]'")

from ray._raylet import GcsClient

import tests.kinds.tint_lane as tinting
from flows.lanes import task_runs
from flows.lanes.node_check import Needs, code_digest
from flows.lanes.ray_cluster import Cluster, joined_cluster
from flows.lanes.ray_run import check_nodes, tell_dashboard, waiting
from tests.faults import simulated_lane as simulated

pytestmark = pytest.mark.together

ROWS = [{"id": f"r{n:02}", "colour": ("red", "blue", "green")[n % 3], "image": mug()} for n in range(16)]
SECONDS = 120.0  # however busy the machine is
OF_TIME = (
    "seconds",
    "finished_at",
    "uri",
    "source_uris",
    "run",
)  # what differs from one run of the same rows to another
OBJECTS = 80 << 20  # bytes, the least that Ray keeps for what travels
# A node whose process is gone is missed within a second rather than fifteen; one that is slow has ten for each answer.
MISSED_SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
HEAD = {
    "num_cpus": 1,
    "include_dashboard": False,
    "include_log_monitor": False,  # nobody reads what lanes log
    "object_store_memory": OBJECTS,
    "_system_config": MISSED_SOON,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node, which others may join."""
    from ray.cluster_utils import Cluster as NodesHere

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # for lanes that are tests' own
        started = NodesHere(initialize_head=True, head_node_args=HEAD)
        yield started
        started.shutdown()


@pytest.fixture
def node(cluster: Any) -> Iterator[Any]:
    """A second node, for as long as a test takes."""
    joined = cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
    yield joined
    leave(cluster, joined)


def leave(cluster: Any, node: Any) -> None:
    """Take a node away, and wait until its cluster knows."""
    cluster.remove_node(node, allow_graceful=False)
    cluster.wait_for_nodes(SECONDS)


@pytest.fixture
def job_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TintJob]:
    """Gives the job whose store has this name."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "manifest.parquet")
    Path("policy.toml").write_text(POLICY.format(threshold=LETS_PASS))

    def job(name: str) -> TintJob:
        (tmp_path / name).mkdir()
        made = TintJob.of(
            manifest=str(tmp_path / "manifest.parquet"),
            store=str(tmp_path / name / "store"),
            policy=str(tmp_path / "policy.toml"),
            clip="none",
            device="cpu",
            precision="float32",
            shard_rows=2,
        )
        tinting.gates(made).mkdir()
        return made

    return job


@pytest.fixture
def simulated_job(tmp_path: Path) -> Callable[..., GenerateJob]:
    """Gives a job of simulated lanes, with so many shards of a row each."""

    def job(shards: int, **hardware: Any) -> GenerateJob:
        rows = {"id": [f"r{n:03}" for n in range(shards)], "prompt": ["a red mug"] * shards}
        pq.write_table(pa.table(rows), tmp_path / "manifest.parquet")
        store = str(tmp_path / "store")
        simulated.orders(store).mkdir()
        where = {"manifest": str(tmp_path / "manifest.parquet"), "store": store}
        return GenerateJob.of(**where, clip="none", device="cpu", precision="float32", shard_rows=1, **hardware)

    return job


def finished(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """The catalogue of a run's rows, but for what differs from one run to another."""
    with registered(TINT):
        assert finish(prepared, started_at=datetime.now(UTC)).complete
    rows = catalogue(prepared.store)
    return {name: {key: value for key, value in row.items() if key not in OF_TIME} for name, row in rows.items()}


def in_this_process(job: TintJob) -> dict[str, dict[str, Any]]:
    """The catalogue that one lane makes."""

    @flow(name="tint")
    def run() -> None:
        lane(0, prepared.spec, OnlyLane(prepared.run.left(prepared.store, range(prepared.shards), pool)))

    with registered(TINT):
        prepared = prepare(RunRequest(job, None, frozenset()))
        with ThreadPoolExecutor(4) as pool:
            run()
    return finished(prepared)


def process_of(folder: Path, pattern: str, *, but: int | None = None) -> int:
    """Wait until a lane's process has left its file; returns the process."""

    def found() -> list[int]:
        return [one for one in (int(file.suffix[1:]) for file in folder.glob(pattern)) if one != but]

    wait_for(found, SECONDS)
    return found()[0]


def runs_of(flow_name: str) -> list[TaskRun]:
    """The task runs that Prefect has under a flow."""
    with get_client(sync_client=True) as client:
        return client.read_task_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])), limit=200)


def states_of(flow_name: str) -> list[str]:
    """The types of the states that Prefect has of a flow's lanes, in the order of their names."""
    runs = [run for run in runs_of(flow_name) if run.name.startswith("lane")]
    return [run.state.type.value for run in sorted(runs, key=lambda run: (run.name, run.created)) if run.state]


def ledgers(store: str) -> list[Path]:
    return list(Path(open_store(store).uri).glob("runs/*/shards/*.parquet"))


def test_lanes_that_are_killed_and_nodes_that_join_and_leave_give_the_catalogue_of_one_lane(
    job_in: Callable[[str], TintJob], cluster: Any
) -> None:
    job = job_in("several")
    gates = tinting.gates(job)
    with ThreadPoolExecutor(1) as pool:  # nodes can only be added in the main thread
        hardware = HardwareSection(lanes="auto", ray=cluster.address, device="cpu")
        running = pool.submit(copy_context().run, tinting.through_ray, job, hardware)
        try:
            first = process_of(gates, "0.*")
            leaving = cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
            process_of(gates, "1.*")
            os.kill(first, signal.SIGKILL)
            process_of(gates, "0.*", but=first)
            cluster.remove_node(leaving, allow_graceful=False)
        finally:
            (gates / tinting.GO).touch()
        prepared, histories = running.result(SECONDS)
    cluster.wait_for_nodes(SECONDS)  # until it knows which are left

    assert [(history.lane, history.restarts) for history in histories] == [(0, 1), (1, 0)]
    assert not (gates / tinting.TORCH).exists()  # a kind without a model needs none
    stages = {f"{stage} {shard}" for stage in ("screen", "render", "classify", "keep") for shard in range(8)}
    wait_for(lambda: {"lane 0", "lane 1", *stages} <= {run.name for run in runs_of("tint on Ray")})
    wait_for(lambda: states_of("tint on Ray") == ["CRASHED", "COMPLETED", "CRASHED"])
    assert [run.name for run in runs_of("tint on Ray") if run.state and not run.state.is_final()] == []
    (killed,) = [run for run in runs_of("tint on Ray") if run.name == "lane 0" and run.state and run.state.is_crashed()]
    assert killed.state is not None
    assert (killed.state.message or "").startswith("This process was lost because ")
    assert finished(prepared) == in_this_process(job_in("one"))


def test_a_place_that_fails_three_times_is_left_out_and_named_and_a_lane_that_hangs_begins_again(
    simulated_job: Callable[..., GenerateJob], cluster: Any, node: Any
) -> None:
    job = simulated_job(6, lanes="2", ray=cluster.address, stalled_minutes=8 / 60)
    orders = simulated.orders(job.store)
    (orders / f"fail.{node.node_id}").touch()
    (orders / "hang").touch()
    (orders / "hold").touch()
    _, progress, histories = simulated.through_ray(job)
    (said,) = progress.left_out.values()
    assert "it failed 3 times, the last time because CUDA error: uncorrectable ECC error" in said
    assert [place.node for place in progress.left_out] == [node.node_id]
    # Two for the place that failed, one for the lane that hung: of which lane, is up to where Ray begins it again.
    assert sum(history.restarts for history in histories) == 3
    assert sum(history.rows for history in histories) == len(ledgers(job.store)) == 6


def refused(cluster: Any, **hardware: Any) -> str:
    """What is said of lanes on the cluster before any work."""
    with pytest.raises(RequestError) as error, joined_cluster(HardwareSection(ray=cluster.address, **hardware)):
        pass
    return str(error.value)


def test_more_lanes_than_a_cluster_has_places_are_refused_and_so_is_auto_where_there_is_no_gpu(cluster: Any) -> None:
    said = refused(cluster, lanes="5", device="cpu")
    assert f"--lanes 5 are more than the 1 core of the Ray cluster {cluster.address}" in said
    assert "give --lanes 1" in said
    assert "has no GPU now, so --lanes auto are none" in refused(cluster, lanes="auto", device="cuda")


def test_a_cluster_that_an_autoscaler_grows_is_waited_for_and_it_is_said_what_for(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_NODE_TYPE_NAME", "workers")  # as it starts each node
    of_group = cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
    try:
        with joined_cluster(HardwareSection(ray=cluster.address, lanes="5", device="cpu")) as joined:
            said = waiting(joined)
    finally:
        leave(cluster, of_group)
    assert said == (f"The Ray cluster {cluster.address} has 2 cores now: 3 of 5 lanes wait until it has grown.")


def test_a_cluster_of_another_python_is_refused_with_both_versions(cluster: Any) -> None:
    store, key = GcsClient(address=cluster.address), (b"CLUSTER_METADATA", b"cluster")
    noted = store.internal_kv_get(*key)
    store.internal_kv_put(key[0], json.dumps({**json.loads(noted), "python_version": "3.7.1"}).encode(), True, key[1])
    try:
        said = refused(cluster, lanes="1", device="cpu")
    finally:
        store.internal_kv_put(key[0], noted, True, key[1])
    assert "has another Python or Ray than this command" in said
    assert "3.7.1" in said
    assert "install the same on every node" in said


def test_a_cluster_of_this_machines_token_is_joined_and_of_another_it_is_said_where_that_is() -> None:
    command = [sys.executable, "-m", "tests.faults.guarded_cluster"]
    token = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_AUTH_TOKEN": "1" * 64}
    with subprocess.Popen(
        command,
        env={**token, "RAY_AUTH_MODE": "token"},  # as `ray start --head` has it where there is a token
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as guarded:
        assert guarded.stdin is not None
        assert guarded.stdout is not None
        address = guarded.stdout.readline().strip()
        said = [
            subprocess.run(
                [*command, address], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
            ).stdout
            for env in (token, {**token, "RAY_AUTH_TOKEN": "0" * 64})
        ]
        guarded.stdin.close()
    assert said == [
        "joined\n",
        f"The Ray cluster {address} wants another token than this machine's: copy ~/.ray/auth_token of the cluster's "
        "head to every node and here, or set RAY_AUTH_TOKEN.\n",
    ]


def test_what_a_node_lacks_is_said_before_any_work(cluster: Any) -> None:
    with joined_cluster(HardwareSection(ray=cluster.address, lanes="1", device="cpu")):
        with pytest.raises(RequestError) as error:
            check_nodes(Needs("another", ("/models/nowhere",), None), on_gpus=False)
        check_nodes(Needs(code_digest(), ("/",), None), on_gpus=False)
        stop.set()  # nobody who asked for that waits for nodes that are slow
        try:
            with pytest.raises(Stopped):
                check_nodes(Needs(code_digest(), ("/",), None), on_gpus=False)
        finally:
            stop.clear()
    assert "its packshot is another version than the command's; it has no /models/nowhere (" in str(error.value)


def test_the_way_to_rays_own_page_is_left_in_prefect() -> None:
    @flow
    def dashboard() -> Any:
        with PrefectNotifier() as telling:
            tell_dashboard(telling, Cluster("10.0.0.1:6379", "10.0.0.1:8265", "auto", on_gpus=True, grows=False))
            return telling.flow_run_id

    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[dashboard()]))
    with get_client(sync_client=True) as client:
        assert [found.data for found in client.read_artifacts(artifact_filter=of_run)] == [
            "[Ray](http://10.0.0.1:8265)"
        ]


def test_task_runs_whose_end_prefect_never_heard_of_end_with_the_run(
    simulated_job: Callable[..., GenerateJob], cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runs, "SECONDS_TO_HEAR", 0.5)
    job = simulated_job(2, lanes="1", ray=cluster.address)
    (simulated.orders(job.store) / "mute").touch()
    assert simulated.through_ray(job)[1].is_over
    (lane,) = runs_of(simulated.flow_name(job))
    assert lane.state is not None
    assert (lane.state.type.value, lane.state.message) == (
        "CRASHED",
        "This process ended, and Prefect wasn't told how it got on.",
    )


@pytest.mark.parametrize("how", ["killed", "Ctrl-C", "SIGTERM"])
def test_a_command_that_is_ended_takes_its_lanes_with_it_and_one_that_is_given_again_goes_on(
    simulated_job: Callable[..., GenerateJob], cluster: Any, how: str
) -> None:
    job = simulated_job(40, lanes="2")
    orders = simulated.orders(job.store)
    (orders / "hold").touch()
    command = subprocess.Popen(
        [sys.executable, "-c", "from tests.faults.simulated_lane import main; main()", job.model_dump_json()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": "/proc/nobody"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lanes = [psutil.Process(process_of(orders, f"began.{number}.*")) for number in (0, 1)]
    except AssertionError:
        command.kill()
        raise
    asked = time.monotonic()
    if how == "Ctrl-C":
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to Ray's own processes, too
    else:
        command.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    said, _ = command.communicate(timeout=SECONDS)
    assert time.monotonic() - asked < WITHIN
    assert command.returncode == (-signal.SIGKILL if how == "killed" else 130), said
    assert "(raylet)" not in said
    assert "Token authentication" not in said
    assert psutil.wait_procs(lanes, timeout=SECONDS)[1] == []
    assert len(ledgers(job.store)) < 40
    if how != "killed":
        stopped_in_order(job)
        return
    (orders / "hold").unlink()
    there = HardwareSection(lanes="1", ray=cluster.address, device="cpu")  # where a run is taken on is no part of it
    prepared, _, histories = simulated.through_ray(job.model_copy(update={"hardware": there}))
    assert [history.rows for history in histories] == [len(ledgers(job.store))] == [40]
    assert [row["status"] for row in finished(prepared).values()] == ["blocked"] * 40


def stopped_in_order(job: GenerateJob) -> None:
    """Check that both lanes ended in Prefect, and kept what they had in hand."""
    wait_for(lambda: all(state in ("FAILED", "CRASHED") for state in states_of(simulated.flow_name(job))))
    assert len(states_of(simulated.flow_name(job))) == 2
    assert ledgers(job.store)


@pytest.mark.usefixtures("node")
def test_a_run_that_is_cancelled_in_prefect_stops_its_lanes_on_every_machine(
    simulated_job: Callable[..., GenerateJob], cluster: Any
) -> None:
    job = simulated_job(40, lanes="2", ray=cluster.address)
    orders = simulated.orders(job.store)
    (orders / "hold").touch()

    def cancel() -> tuple[float, list[psutil.Process]]:
        try:
            lanes = [psutil.Process(process_of(orders, f"began.{number}.*")) for number in (0, 1)]
            with get_client(sync_client=True) as client:
                named = FlowFilter(name=FlowFilterName(any_=[simulated.flow_name(job)]))
                (flow_run,) = client.read_flow_runs(flow_filter=named)
                client.set_flow_run_state(flow_run.id, State(type=StateType.CANCELLING, name="Cancelling"))
        except BaseException:
            ask_to_stop()
            raise
        return time.monotonic(), lanes

    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(copy_context().run, cancel)
        with pytest.raises(Stopped):
            simulated.through_ray(job)
        ended = time.monotonic()
        asked, lanes = cancelling.result()
    stop.clear()
    assert ended - asked < WITHIN
    assert psutil.wait_procs(lanes, timeout=SECONDS)[1] == []
    stopped_in_order(job)
    assert len(ledgers(job.store)) < 40

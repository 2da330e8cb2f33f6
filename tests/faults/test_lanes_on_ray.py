"""Lanes in a real Ray cluster on this machine: whatever becomes of them, the catalogue is that of one lane."""

from __future__ import annotations

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
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from flows.run_steps import lane
from tasks.job_sections import HardwareSection
from tasks.kinds.registry import registered
from tasks.lane.shard_queue import OnlyLane
from tasks.runs.finish import finish
from tasks.runs.prepare import Prepared, RunRequest, prepare
from tasks.stores.opening import open_store
from tests.end_to_end.conftest import catalogue, prefect_api
from tests.kinds.mugs import LETS_PASS, POLICY, mug
from tests.kinds.tint import TINT, TintJob

__all__ = ["prefect_api"]  # fixture

pytest.importorskip("ray", reason="Ray isn't installed: pip install 'packshot[ray]'")

from tests.kinds.tint_lane import GO, gates, through_ray

ROWS = [{"id": f"r{n:02}", "colour": ("red", "blue", "green")[n % 3], "image": mug()} for n in range(16)]
SECONDS = 90.0
OF_TIME = ("seconds", "finished_at", "uri", "run")  # what differs from one run of the same rows to another


@pytest.fixture
def job_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TintJob]:
    """Gives the job whose store has this name."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
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
        gates(made).mkdir()
        return made

    return job


def finished(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """The catalogue of a run's rows, but for what differs from one run to another."""
    with registered(TINT):
        assert finish(prepared, started_at=datetime.now(UTC)).complete
    rows = catalogue(prepared.store)
    return {name: {key: value for key, value in row.items() if key not in OF_TIME} for name, row in rows.items()}


def in_this_process(job: TintJob) -> dict[str, dict[str, Any]]:
    """The catalogue that one lane makes, or ends where others left it."""

    @flow(name="tint")
    def run() -> None:
        lane(0, prepared.spec, OnlyLane(prepared.run.left(prepared.store, range(prepared.shards), pool)))

    with registered(TINT):
        prepared = prepare(RunRequest(job, None, frozenset()))
        with ThreadPoolExecutor(4) as pool:
            run()
    return finished(prepared)


def holding(job: TintJob, number: int, *, but: int | None = None) -> int:
    """Wait until a lane holds a shard; returns its process."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = [int(file.name.partition(".")[2]) for file in gates(job).glob(f"{number}.*")]
        if left := [process for process in found if process != but]:
            return left[0]
        time.sleep(0.1)
    raise AssertionError(f"Lane {number} holds no shard after {SECONDS:g} seconds.")


def recorded() -> set[str]:
    """The names of the task runs that Prefect has under the flow; it writes them down a little later."""
    of_flow, names, deadline = FlowFilter(name=FlowFilterName(any_=["tint on Ray"])), set[str](), time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while len(names) < len(ROWS) // 2 * 4 + 3 and time.monotonic() < deadline:
            time.sleep(0.5)
            names = {run.name for run in client.read_task_runs(flow_filter=of_flow, limit=200)}
    return names


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of one node, which others may join."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield started
    started.shutdown()


def test_lanes_that_are_killed_and_nodes_that_join_and_leave_give_the_catalogue_of_one_lane(
    job_in: Callable[[str], TintJob], cluster: Any
) -> None:
    job = job_in("several")
    with ThreadPoolExecutor(1) as pool:  # nodes can only be added in the main thread
        hardware = HardwareSection(lanes="auto", ray=cluster.address, device="cpu")
        running = pool.submit(copy_context().run, through_ray, job, hardware)
        try:
            first = holding(job, 0)
            cluster.add_node(num_cpus=1)
            holding(job, 1)
            leaving = cluster.add_node(num_cpus=1)
            holding(job, 2)
            os.kill(first, signal.SIGKILL)
            holding(job, 0, but=first)
            cluster.remove_node(leaving, allow_graceful=False)
        finally:
            (gates(job) / GO).touch()
        prepared, histories = running.result(SECONDS)

    assert [(history.lane, history.restarts) for history in histories[:1]] == [(0, 1)]
    names = recorded()
    assert {"lane 0", "lane 1", "lane 2"} <= names
    assert {f"{stage} {shard}" for stage in ("screen", "render", "classify", "keep") for shard in range(8)} <= names
    assert finished(prepared) == in_this_process(job_in("one"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_is_ended_takes_its_lanes_with_it_and_goes_on_when_it_is_given_again(
    job_in: Callable[[str], TintJob], how: signal.Signals
) -> None:
    job = job_in("ended")
    command = subprocess.Popen(
        [sys.executable, "-c", "from tests.kinds.tint_lane import main; main()", job.model_dump_json()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        lanes = [psutil.Process(holding(job, number)) for number in (0, 1)]
    except AssertionError:
        command.kill()
        raise
    command.send_signal(how)
    assert command.wait(SECONDS) == (130 if how == signal.SIGTERM else -how)
    assert psutil.wait_procs(lanes, timeout=SECONDS)[1] == []
    ledgers = list(Path(open_store(job.store).uri).glob("runs/*/shards/*.parquet"))
    assert len(ledgers) < len(ROWS) // 2
    assert {row["status"] for row in in_this_process(job).values()} == {"done"}

"""Stop it anywhere, in any way: the same command goes on from there, and every row ends once."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State, StateType

from flows.orchestration import telling
from flows.orchestration.final_state import stopped_state
from tasks.processes.stopping import stop, stopping_in_order
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import SMALL, catalogue, command, manifest, prefect_api, run, store
from tests.faults.fault_proxy import FaultProxy, answer
from tests.forked import ForkedCommand
from tests.waiting import wait_for

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

ROWS = [{"id": f"r{n:02}", "prompt": f"a red mug number {n}"} for n in range(24)]
BATCH = 2
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


def pictures(store: Store) -> dict[str, int]:
    """The pictures that were made, and when each was written."""
    return {str(file): file.stat().st_mtime_ns for file in Path(store.uri).glob("masters/*/*/*.png")}


def started(file: str, store: Store, at_least: int, **environment: str) -> ForkedCommand:
    """A run in a process of its own that has kept so many pictures."""
    words = ["generate", file, "--store", store.uri, "--batch", str(BATCH), "--shard-rows", "8", *FLAGS]
    process, deadline = command(*words, **environment), time.monotonic() + 200
    while len(pictures(store)) < at_least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def state_of(file: str) -> Any:
    """The final state that Prefect has of the only run of a manifest."""
    with get_client(sync_client=True) as client:
        named = FlowRunFilter(name=FlowRunFilterName(like_=file))
        (flow_run,) = client.read_flow_runs(flow_run_filter=named)
    return flow_run.state


@pytest.mark.parametrize(("how", "at_least"), [(signal.SIGKILL, 3), (signal.SIGINT, 11), (signal.SIGTERM, 1)])
def test_a_stopped_run_goes_on_where_it_was(
    manifest: Callable[..., str], store: Store, how: signal.Signals, at_least: int
) -> None:
    file = manifest(ROWS)
    process = started(file, store, at_least)
    process.send_signal(how)
    _, said = process.communicate(timeout=120)
    before = pictures(store)
    assert len(before) < len(ROWS)
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "the same command goes on from there" in said
        assert "Traceback" not in said
        assert [state_of(file).name, state_of(file).message] == ["Cancelled", said.strip()]

    summary = run(file, store, batch=BATCH, shard_rows=8)

    after, found = pictures(store), catalogue(store)
    assert sorted(found) == [row["id"] for row in ROWS]
    assert {row["status"] for row in found.values()} == {"done"}
    assert {file: after[file] for file in before} == before  # what was made was not made again
    assert len(after) == len(ROWS)
    assert summary.complete
    for row in found.values():
        assert hashlib.sha256(Path(row["uri"]).read_bytes()).hexdigest() == row["sha256"]


def test_a_run_that_is_cancelled_in_prefect_is_asked_to_stop_as_by_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SECONDS_BETWEEN", 0.1)

    @flow
    def cancelled() -> Any:
        prepared: Any = SimpleNamespace(run=SimpleNamespace(id="run"), ended=0, to_do=10)
        with stopping_in_order(), telling.PrefectNotifier() as notifier, telling.telling_progress(notifier, prepared):
            assert notifier.flow_run_id is not None
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(notifier.flow_run_id, State(type=StateType.CANCELLING, name="Cancelling"))
            wait_for(stop.is_set)
        stop.clear()
        return stopped_state()

    assert cancelled(return_state=True).name == "Cancelled"


def test_a_command_with_a_server_of_its_own_ends_within_five_seconds_of_saying_that_it_stopped(
    manifest: Callable[..., str], store: Store
) -> None:
    process = started(manifest(ROWS), store, 1, PREFECT_API_URL="")
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("Stopped. What was finished is stored")
    assert process.wait(timeout=5.0) == 130
    assert process.communicate() == ("", "")


def test_a_store_that_goes_away_ends_the_run_in_a_sentence_and_loses_nothing(
    manifest: Callable[..., str],
    s3_server: str,
    s3_store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = manifest(ROWS[:8])
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        proxy.inject(answer(403, "AccessDenied"), method="PUT", path="/masters/", times=1000)
        words = ["generate", file, "--store", s3_store_uri, "--shard-rows", "4", *FLAGS]
        _, said = (process := command(*words)).communicate(timeout=200)
    assert process.returncode == 3
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1, said

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    bucket = open_store(s3_store_uri)
    run(file, bucket, shard_rows=4)
    assert {row["status"] for row in catalogue(bucket).values()} == {"done"}

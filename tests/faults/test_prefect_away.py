"""A run goes on without its Prefect server, ends in good time, and tells it everything where it comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.orchestration.server import DATABASE, bring_empty
from tasks.stores.store import Store
from tests.end_to_end.conftest import SMALL, catalogue, command, manifest, store
from tests.forked import ForkedCommand
from tests.waiting import wait_for

__all__ = ["manifest", "store"]  # fixtures

pytestmark = pytest.mark.waits
ROWS = [{"id": f"r{n:02}", "prompt": f"a red mug number {n}"} for n in range(24)]
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


class Server:
    """A Prefect server that can be killed, stopped, and started again at its address."""

    def __init__(self, home: Path) -> None:
        self.held = socket.socket()  # and doesn't listen: while the server is down, nobody else can take its port
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind(("127.0.0.1", 0))
        self.port = self.held.getsockname()[1]
        self.home, self.address = home, f"http://127.0.0.1:{self.port}/api"
        home.mkdir()
        bring_empty(home / DATABASE)
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PREFECT_HOME": str(self.home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        options = ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *options, "--log-level", "error"],
            env={**environment, "PREFECT_UI_ENABLED": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.is_there, 120)

    def wake(self) -> None:
        """Be there again, whatever the test before did to it."""
        self.process.send_signal(signal.SIGCONT)
        if self.process.poll() is not None:
            self.start()

    def is_there(self) -> bool:
        assert self.process.poll() is None
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, prefect_address: str) -> Iterator[Server]:
    del prefect_address  # of the tests' own server, which leaves an empty database for this one
    server = Server(tmp_path_factory.mktemp("away") / "prefect")
    yield server
    server.kill()
    server.held.close()


@pytest.fixture
def server(started: Server) -> Server:
    started.wake()
    return started


@contextmanager
def client_of(server: Server) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.address}), get_client(sync_client=True) as client:
        yield client


def drawn(store: Store) -> int:
    return len([*Path(store.uri).glob("masters/*/*/*.png")])


def begun(file: str, store: Store, server: Server) -> ForkedCommand:
    """A run that has drawn something."""
    words = ["generate", file, "--store", store.uri, "--batch", "1", "--shard-rows", "4", *FLAGS]
    process = command(*words, PREFECT_API_URL=server.address)
    wait_for(lambda: drawn(store) > 0, 200)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_ends_well_without_its_prefect_server(
    manifest: Callable[..., str], store: Store, server: Server, how: signal.Signals
) -> None:
    process = begun(manifest(ROWS), store, server)
    server.process.send_signal(how)
    out, said = process.communicate(timeout=250)
    assert (process.returncode, "Traceback" in said) == (0, False), said
    assert "Prefect's server is away, and doesn't know that the run has ended." in said
    assert "Prefect couldn't be told how the run gets on for" in out
    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    assert len(said.strip().splitlines()) == 1, said


def test_a_run_tells_its_prefect_server_everything_when_it_is_back(
    manifest: Callable[..., str], store: Store, server: Server
) -> None:
    with client_of(server) as client:
        earlier = {flow_run.id for flow_run in client.read_flow_runs()}
    process = begun(manifest(ROWS), store, server)
    server.kill()
    before = drawn(store)
    wait_for(lambda: drawn(store) > before + 2, 60)
    process.send_signal(signal.SIGSTOP)  # or it has ended before the server is there again
    server.start()
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=250)
    assert (process.returncode, said.strip()) == (0, ""), said
    assert {row["status"] for row in catalogue(store).values()} == {"done"}

    with client_of(server) as client:
        (flow_run,) = (flow_run for flow_run in client.read_flow_runs() if flow_run.id not in earlier)
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))

        def ends() -> dict[str, str | None]:
            return {task.name: task.state_name for task in client.read_task_runs(flow_run_filter=ours)}

        stages = {f"{stage} {shard}" for stage in ("screen", "render", "classify", "keep") for shard in range(6)}
        wait_for(lambda: len(ends()) == len(stages) + 3 and set(ends().values()) == {"Completed"}, 60)
        assert set(ends()) == {*stages, "plan", "lane 0", "finish"}
        assert client.read_flow_run(flow_run.id).state_name == "Completed"

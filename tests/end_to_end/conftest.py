"""Whole runs: the miniature, a real Prefect server, a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_API_URL, temporary_settings

from flows.generate import generate
from flows.orchestration.server import UNWATCHED
from tasks.job import GenerateJob
from tasks.outcome import Retry
from tasks.reports.summary import Summary
from tasks.results.master import SOURCE, Masters
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.forked import ForkedCommand, forked_command
from tests.trusted import first_certificate

ROAD = str(Path(__file__).with_name("road.toml"))
SMALL = {"width": 128, "height": 128, "steps": 3, "guidance": 1.0, "policy": ROAD}
"""For runs in which only the road matters: pictures too small to show anything, and a policy that lets them."""


@pytest.fixture(scope="module", autouse=True)
def prefect_api(prefect_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Have the runs of this process, and of those that it starts, use the tests' own Prefect server.

    Those of this process end without the wait that `UNWATCHED` speaks of; commands end as a person's do.
    """
    home = tmp_path_factory.mktemp("prefect")
    trusted = home / "certificate.pem"
    trusted.write_text(first_certificate())
    settings = {PREFECT_API_URL: prefect_address, PREFECT_API_SSL_CERT_FILE: str(trusted)}
    with pytest.MonkeyPatch.context() as environment, temporary_settings({**settings, **UNWATCHED}):
        environment.setenv("PREFECT_HOME", str(home))
        environment.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        for setting, value in settings.items():
            environment.setenv(setting.name, value)
        yield prefect_address


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    """Writes rows as a manifest; returns its path."""

    def write(rows: list[dict[str, Any]], name: str = "manifest.parquet") -> str:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def run(manifest: str, store: Store, *, limit: int | None = None, retry: tuple[Retry, ...] = (), **job: Any) -> Summary:
    """One run of the flow in this process, small pictures unless the job says otherwise."""
    return generate(GenerateJob.of(manifest=manifest, store=store.uri, **{**SMALL, **job}), limit, retry)


def source_of(store: Store, row: dict[str, Any]) -> bytes:
    """The source picture at the size of its layers, which lies in their master alone."""
    masters = Masters(store)
    master = masters.find(row["key"])
    assert master is not None
    return masters.read(master, SOURCE)


def command(*words: str, **environment: str) -> ForkedCommand:
    """The command line in a process of its own, forked from one that has imported torch and what stands on it."""
    return forked_command(*words, environment={**os.environ, "COLUMNS": "160", **environment})


def spawned_command(*words: str, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, from the interpreter's start on."""
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.command import main; main()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def catalogue(store: Store) -> dict[str, dict[str, Any]]:
    """The catalogue's rows by id, without their versions."""
    found = store.read("catalog.parquet")
    assert found is not None
    rows = pq.read_table(pa.BufferReader(found[0])).drop_columns(["planned_from", "changed_in"]).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}

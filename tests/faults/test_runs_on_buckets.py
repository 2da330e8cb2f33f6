"""Whole runs on buckets of other makers, and on ways to them that go bad: the catalogue is that of a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import SMALL, catalogue, command, manifest, prefect_api, run, store
from tests.faults.dialects import FAULTS, SURVIVED, expires_after
from tests.faults.fault_proxy import FaultProxy

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

ROWS = [{"id": f"r{n:02}", "prompt": f"a red mug number {n}"} for n in range(8)]
CHANGED = [*ROWS[:-1], {"id": "r07", "prompt": "a blue bowl"}]
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
PASSING = [fault for name, fault in FAULTS.items() if name != "time-outs"]  # a run waits a minute for each


def told(store: Store) -> dict[str, tuple[Any, ...]]:
    """What a catalogue says of each row that doesn't depend on the store; its pictures are there."""
    rows = catalogue(store)
    for row in rows.values():
        assert store.read(row["uri"].removeprefix(f"{store.uri}/")) is not None
    return {name: tuple(row[column] for column in ("status", "key", "sha256", "prompt")) for name, row in rows.items()}


@pytest.fixture
def usual(manifest: Callable[..., str], store: Store) -> dict[str, tuple[Any, ...]]:
    """What the catalogue of a folder says after both manifests."""
    for rows in (ROWS, CHANGED):
        run(manifest(rows), store)
    return told(store)


def test_a_run_that_changes_a_row_on_the_real_server_ends_as_in_a_folder(
    manifest: Callable[..., str], usual: dict[str, tuple[Any, ...]], radosgw_store_uri: str
) -> None:
    bucket = open_store(radosgw_store_uri)
    for rows in (ROWS, CHANGED):
        run(manifest(rows), bucket)
    assert told(bucket) == usual


def test_two_runs_at_once_on_the_real_server_end_with_every_row_once(
    manifest: Callable[..., str], radosgw_store_uri: str
) -> None:
    bucket, other = open_store(radosgw_store_uri), manifest(ROWS[:6], "other.parquet")
    process = command("generate", other, "--store", radosgw_store_uri, "--shard-rows", "2", *FLAGS)
    while next(bucket.listing("runs"), None) is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    run(manifest(ROWS[2:]), bucket, shard_rows=2)
    _, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    assert {name: row[0] for name, row in told(bucket).items()} == {row["id"]: "done" for row in ROWS}


def test_a_run_over_a_bad_way_to_an_odd_bucket_ends_as_in_a_folder(
    manifest: Callable[..., str],
    usual: dict[str, tuple[Any, ...]],
    s3_server: str,
    s3_store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FaultProxy(s3_server, *SURVIVED["everything at once"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        met = proxy.inject_at_random(PASSING, rate=0.05, seed=1)
        bucket = open_store(s3_store_uri)
        for rows in (ROWS, CHANGED):
            run(manifest(rows), bucket)
        assert told(bucket) == usual
    assert met


def test_credentials_that_expire_end_a_run_in_a_sentence_and_the_next_one_goes_on(
    manifest: Callable[..., str], s3_server: str, s3_store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(ROWS)
    words = ["generate", file, "--store", s3_store_uri, "--batch", "2", "--shard-rows", "2", *FLAGS]
    with FaultProxy(s3_server, expires_after(2, "/shards/")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        _, said = (process := command(*words)).communicate(timeout=250)
    assert process.returncode == 3
    assert "ExpiredToken" in said
    assert len(said.strip().splitlines()) == 1, said

    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        bucket = open_store(s3_store_uri)
        run(file, bucket, batch=2, shard_rows=2)
        ledgers = [path for method, path in proxy.seen if method == "PUT" and "/shards/" in path]
        assert len(ledgers) == 2  # of four shards
        assert {row[0] for row in told(bucket).values()} == {"done"}

"""What a run reads of a bucket, it reads once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.job import GenerateJob
from tasks.reports.summary import Summary
from tasks.runs.finish import finish
from tasks.runs.prepare import Estimate, RunRequest, estimate, prepare
from tasks.stores.opening import open_store
from tests.faults.fault_proxy import FaultProxy


@pytest.fixture
def way(s3_store_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The way to the bucket, which remembers what was asked for."""
    del s3_store_uri  # made on another way
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


def asked_for(store: str, *prices: int) -> RunRequest:
    """Write a manifest, whose rows fail without a model, beside a store."""
    rows = [{"id": f"row-{price}", "prompt": "a mug", "width": 3, "price": price} for price in prices]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    manifest = f"{store}/in/manifest.parquet"
    open_store(f"{store}/in").overwrite("manifest.parquet", buffer.getvalue())
    return RunRequest(GenerateJob.of(manifest=manifest, store=f"{store}/out", device="cpu", clip="none"))


def done(request: RunRequest) -> Summary:
    return finish(prepare(request), started_at=datetime.now(UTC))


def fetched(way: FaultProxy, name: str) -> int:
    return sum(method == "GET" and path.split("?")[0].endswith(f"/{name}") for method, path in way.seen)


def test_a_run_fetches_its_manifest_once_and_the_catalogue_once_before_its_plan_is_written(
    way: FaultProxy, s3_store_uri: str
) -> None:
    done(asked_for(s3_store_uri, 1))
    request = asked_for(s3_store_uri, 1, 2)
    way.seen.clear()
    prepared = prepare(request)
    assert (fetched(way, "manifest.parquet"), fetched(way, "catalog.parquet"), prepared.complete) == (1, 1, False)
    assert any(method == "PUT" and path.endswith("/plan.parquet") for method, path in way.seen)
    finish(prepared, started_at=datetime.now(UTC))
    assert (fetched(way, "manifest.parquet"), fetched(way, "catalog.parquet")) == (1, 2)  # again where it is replaced


@pytest.mark.parametrize("ask", [estimate, done], ids=["a dry run", "a run that leaves nothing to do"])
def test_what_changes_nothing_fetches_the_manifest_and_the_catalogue_once(
    way: FaultProxy, s3_store_uri: str, ask: Callable[[RunRequest], Estimate | Summary]
) -> None:
    request = asked_for(s3_store_uri, 1)
    first = done(request)
    way.seen.clear()
    said = ask(request)
    assert (fetched(way, "manifest.parquet"), fetched(way, "catalog.parquet")) == (1, 1)
    assert said.run is None if isinstance(said, Summary) else said.plan_counts.bad == first.rows == 1

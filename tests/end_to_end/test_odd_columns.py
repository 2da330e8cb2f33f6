"""Values that Python can't hold go through everything a shop does with a catalogue."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from tasks.catalogue.catalogue import read_catalogue
from tasks.job import GenerateJob
from tasks.maintenance.prune import prune
from tasks.maintenance.rebuild import rebuild
from tasks.review.decide import decide, take_down, waiting
from tasks.runs.finish import report_store
from tasks.runs.prepare import RunRequest, estimate
from tasks.stores.store import Store

from .conftest import SMALL, prefect_api, run, store
from .test_review import policy

__all__ = ["policy", "prefect_api", "store"]  # fixtures

NANOSECOND = 1_700_000_000_000_000_001
ODD = {
    "ns": pa.array([NANOSECOND, None, 1], pa.timestamp("ns")),
    "nested": pa.array([[NANOSECOND], None, [1]], pa.list_(pa.timestamp("ns"))),
    "struct": pa.StructArray.from_arrays([pa.array([NANOSECOND, 1, 2], pa.time64("ns"))], ["at"]),
    "late": pa.array([2**31 - 1, None, -(2**31)], pa.int32()).view(pa.date32()),
    "zone": pa.array([1, 2, None], pa.timestamp("us", "Mars/Olympus")),
    "took": pa.array([1, None, 3], pa.duration("ns")),
    "price": pa.array([Decimal("1.123456789"), None, Decimal("2")], pa.decimal256(50, 9)),
    "view": pa.array(["a", None, "a text that is longer than twelve bytes"], pa.string_view()),
    "content": pa.array([b"a", None, b"\xff"], pa.binary_view()),
    "category": pa.array(["a", None, "a"]).dictionary_encode(),
    "broken": pa.array([b"\xff\xfe", None, b"mug"]).view(pa.string()),
    "attributes": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "uuid": pa.array([b"a" * 16, None, b"b" * 16], pa.binary(16)).cast(pa.uuid()),
    "nothing": pa.nulls(3),
}


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., str]:
    """Writes a manifest of three mugs with all odd columns; returns its path."""

    def write(**columns: pa.Array) -> str:
        known = {"id": ["a", "b", "c"], "prompt": [f"a {colour} mug on white" for colour in ("red", "blue", "teal")]}
        pq.write_table(pa.table({**known, **ODD, **columns}), tmp_path / "odd.parquet")
        return str(tmp_path / "odd.parquet")

    return write


def carried(store: Store) -> pa.Table:
    """The odd columns of the catalogue, in the order of ids."""
    table = read_catalogue(store).table
    order = pa.array(sorted(range(table.num_rows), key=table.column("id").to_pylist().__getitem__))
    return table.take(order).select([*ODD])


def check(store: Store) -> None:
    """Check that the catalogue carries what the manifest held."""
    found = carried(store)
    for name, column in ODD.items():
        kind = {"view": pa.large_string(), "content": pa.large_binary(), "category": pa.string()}.get(name, column.type)
        assert found.column(name).combine_chunks().equals(column.cast(kind)), name


def test_values_that_python_cannot_hold_are_carried_through_runs_reviews_takedowns_and_rebuilds(
    odd: Callable[..., str], store: Store, policy: Callable[..., str]
) -> None:
    rules = policy()

    first = run(odd(), store, policy=rules)
    assert first.waiting == 3
    check(store)
    told = "1 row has text that isn't UTF-8 in the column 'broken', which is carried as it is: a."
    assert first.warnings == (told,)
    assert escape(told) in Path(first.report).read_text()
    job = GenerateJob.of(manifest=odd(), store=store.uri, **SMALL)
    assert estimate(RunRequest(job)).warnings == (told,)
    assert [row.id for row in waiting(store.uri)] == ["a", "b", "c"]
    assert decide(store.uri, ["a"], "approve", by="Ann")[0].holds
    assert decide(store.uri, ["b"], "reject", by="Ann")[0].holds
    assert report_store(store.uri).statuses["done"] == 1
    assert run(odd(), store, policy=rules).rendered == 0
    assert take_down(store.uri, ["a"], until_approved=True, by="Bo")[0].holds
    prune(store)
    check(store)

    store.delete("catalog.parquet")
    assert rebuild(store).added == 3
    check(store)
    assert run(odd(), store, policy=rules).rendered == 0
    later = {"late": pa.array([1, 2, 3], pa.date32()), "seed": pa.array([1.0, float("nan"), 12.5])}
    summary = run(odd(**later), store, policy=rules)
    assert (summary.rendered, summary.statuses["failed"]) == (1, 1)
    assert carried(store).column("late").cast(pa.int32()).to_pylist() == [1, 2, 3]

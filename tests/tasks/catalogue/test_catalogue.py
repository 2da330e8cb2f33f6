"""The catalogue has the newest outcome of every row, and what the manifest carries beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.catalogue.catalogue import check_carried, outcomes_in, read_catalogue, with_rows
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.errors import RequestError
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.manifest import Manifest, open_manifest
from tasks.outcome import CATALOGUE_SCHEMA, Outcome, Status
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.tasks.catalogues import commit, kept, published

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_store_uri"))


def done(store: Store, row_id: str, **values: Any) -> Outcome:
    return outcome(row_id, **{**kept(store, f"key of {row_id}"), **values})


def outcome(row_id: str, minutes: int = 0, **values: Any) -> Outcome:
    whole = {
        "status": Status.DONE,
        "key": f"key of {row_id}",
        "seed": 1,
        "prompt": "a mug",
        "model": "m",
        "profile": "none",
        "policy_fingerprint": "judges",
        "run": "run",
        "attempt": 1,
        "scores": {"weapon": 0.25},
        "finished_at": NOON + timedelta(minutes=minutes),
    }
    return Outcome(id=row_id, **{**whole, **values})


def plan(**columns: list[Any]) -> pa.Table:
    return pa.table({name.replace("carried_", "carried:"): values for name, values in columns.items()})


def test_a_store_without_a_catalogue_has_an_empty_one(store: Store) -> None:
    catalogue = read_catalogue(store)
    assert (catalogue.table.num_rows, catalogue.token) == (0, None)
    assert catalogue.known(["a"]) == [None]


def test_outcomes_stand_beside_what_the_manifest_carries(store: Store) -> None:
    commit(store, plan(id=["b", "a"], carried_price=[2, 1]), [done(store, "a"), done(store, "b")])

    table = read_catalogue(store).table

    assert table.schema.names == [*CATALOGUE_SCHEMA.names, "price"]
    assert list(zip(table["id"].to_pylist(), table["price"].to_pylist(), strict=True)) == [("b", 2), ("a", 1)]
    assert table["scores"].to_pylist()[0] == [("weapon", 0.25)]


def test_rows_of_other_manifests_stay_and_their_columns_are_filled_with_nulls(store: Store) -> None:
    commit(store, plan(id=["a"], carried_price=[1]), [done(store, "a")])
    commit(store, plan(id=["b"], carried_shelf=["x"]), [done(store, "b")])

    rows = {row["id"]: row for row in read_catalogue(store).table.to_pylist()}

    assert (rows["a"]["price"], rows["a"]["shelf"]) == (1, None)
    assert (rows["b"]["price"], rows["b"]["shelf"]) == (None, "x")


def test_a_row_that_was_kept_shows_its_old_outcome_and_its_new_price(store: Store) -> None:
    commit(store, plan(id=["a"], carried_price=[1]), [done(store, "a", run="first")])
    mine = commit(store, plan(id=["a"], carried_price=[9]), [])
    assert mine.select(["run", "price"]).to_pylist() == [{"run": "first", "price": 9}]


def test_of_two_outcomes_the_one_whose_plan_is_newer_wins_whatever_clocks_say(store: Store) -> None:
    commit(store, plan(id=["a", "b"]), [done(store, "a"), done(store, "b")])
    monday = read_catalogue(store).state.version
    wednesday = outcome("a", minutes=-5, status=Status.REJECTED, run="wednesday")  # its machine's clock lags
    commit(store, plan(id=["a"], carried_price=[2]), [wednesday], planned_from=monday + 1)
    resumed = [outcome(name, minutes=99, status=Status.BLOCKED, run="monday") for name in "ab"]

    mine = commit(store, plan(id=["b", "a"], carried_price=[1, 1]), resumed, planned_from=monday)

    assert mine.select(["id", "status", "run", "price"]).to_pylist() == [
        {"id": "b", "status": "blocked", "run": "monday", "price": 1},
        {"id": "a", "status": "rejected", "run": "wednesday", "price": 2},
    ]


def test_of_two_outcomes_of_equally_new_plans_the_later_commit_wins(store: Store) -> None:
    commit(store, plan(id=["a"]), [outcome("a", minutes=5, status=Status.REJECTED)], planned_from=0)
    commit(store, plan(id=["a"]), [outcome("a", minutes=1, status=Status.BLOCKED)], planned_from=0)
    assert read_catalogue(store).table["status"].to_pylist() == ["blocked"]


def test_a_row_that_a_newer_plan_left_as_it_was_is_not_overwritten_by_an_older_one(store: Store) -> None:
    commit(store, plan(id=["a"]), [outcome("a", status=Status.REJECTED)], planned_from=0)
    commit(store, plan(id=["a"]), [], planned_from=5)
    commit(store, plan(id=["a"]), [done(store, "a", run="older")], planned_from=4)
    assert read_catalogue(store).table["status"].to_pylist() == ["rejected"]


def test_a_row_of_the_catalogue_is_the_outcome_that_was_committed_with_its_versions(store: Store) -> None:
    ended = outcome("a", status=Status.REJECTED)
    (row,) = outcomes_in(commit(store, plan(id=["a"]), [ended], planned_from=7))
    row |= {name: dict(row[name]) for name in ("scores", "limits", "asks")}
    assert Outcome(**row) == replace(ended, planned_from=7, changed_in=read_catalogue(store).state.version)


def test_an_edit_that_somebody_outran_is_given_the_catalogue_again(store: Store) -> None:
    commit(store, plan(id=["a"]), [done(store, "a")])
    seen = []
    with CatalogueEdit(store, "a test") as edit:
        for before in edit.tries():
            seen.append(before.table["id"].to_pylist())
            if len(seen) == 1:
                commit(store, plan(id=["b"]), [done(store, "b")])
            rejected = {0: {**outcomes_in(before.table)[0], "status": Status.REJECTED, "changed_in": None}}
            edit.commit(before, with_rows(before.table, rejected))
    assert seen == [["a"], ["a", "b"]]
    assert read_catalogue(store).table["status"].to_pylist() == ["rejected", "done"]
    assert read_catalogue(store).state == edit.after.state


def test_an_edit_in_which_something_goes_wrong_stands_in_the_catalogue_no_more(store: Store) -> None:
    commit(store, plan(id=["a"]), [done(store, "a")])

    def goes_wrong() -> None:
        with CatalogueEdit(store, "a test") as edit:
            edit.come_in()
            assert [*read_catalogue(store).state.editors] == [edit.name]
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        goes_wrong()
    assert read_catalogue(store).state.editors == {}


def test_a_row_keeps_the_version_that_it_was_changed_in(store: Store) -> None:
    commit(store, plan(id=["a"]), [outcome("a", status=Status.BLOCKED)])
    first = read_catalogue(store)
    commit(store, plan(id=["a", "b"]), [outcome("b", status=Status.BLOCKED)])
    second = read_catalogue(store)
    assert first.state.version < second.state.version
    assert second.table["changed_in"].to_pylist() == [first.state.version, second.state.version]
    assert second.table["planned_from"].to_pylist() == [first.state.version] * 2


def test_a_row_without_an_outcome_yet_is_not_in_the_catalogue(store: Store) -> None:
    mine = commit(store, plan(id=["a", "b"], carried_price=[1, 2]), [done(store, "b")])
    assert mine.select(["id", "price"]).to_pylist() == [{"id": "b", "price": 2}]


def test_runs_that_finish_at_the_same_moment_lose_no_row(store: Store) -> None:
    def finish(n: int) -> Callable[[], None]:
        return lambda: void(commit(store, plan(id=[f"r{n}"]), [done(store, f"r{n}")]))

    def void(_: object) -> None:
        return None

    threads = [Thread(target=finish(n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = {row["id"]: row for row in read_catalogue(store).table.to_pylist()}
    assert sorted(found) == [f"r{n}" for n in range(8)]
    assert {row["status"] for row in found.values()} == {"done"}
    assert published(store) == {f"images/key of r{n}" for n in range(8)}


def test_known_rows_are_found_by_id(store: Store) -> None:
    commit(store, plan(id=["a", "b"]), [done(store, "a"), outcome("b", status=Status.FAILED, attempt=3)])
    missing, found = read_catalogue(store).known(["c", "b"])
    assert missing is None
    assert found is not None
    assert (found.status, found.key, found.attempt) == ("failed", "key of b", 3)


def manifest_of(tmp_path: Path, column: pa.Array) -> Manifest:
    file = tmp_path / "m.parquet"
    rows = [f"m{number}" for number in range(len(column))]
    pq.write_table(pa.table({"id": rows, "prompt": ["a mug"] * len(column), "price": column}), file)
    return open_manifest("m.parquet", fetch_manifest(str(file), tmp_path))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.array([7]), pa.array([Decimal("1.50")]), pa.decimal128(21, 2)),
        (pa.array([-7], pa.int32()), pa.array([2**63], pa.uint64()), pa.decimal128(20, 0)),
        (pa.array([Decimal("1.5")]), pa.array([0.1]), None),
        (pa.array([1.5]), pa.array(["dear"]), None),
        (pa.array([2**60]), pa.array([0.5]), None),
        (pa.array([1.5]), pa.array([7]), pa.float64()),
        (pa.array(["dear"]), pa.array(["cheap", "dear"]).dictionary_encode(), pa.string()),
        (pa.array(["dear"]).dictionary_encode(), pa.array(["cheap", "dear"]).dictionary_encode(), pa.string()),
        (pa.array(["dear"]), pa.array(["cheap"], pa.string_view()), pa.large_string()),
        (pa.nulls(1), pa.array([["x"]], pa.list_view(pa.string())), pa.list_view(pa.string())),
        (pa.array([2**31 - 1], pa.int32()).view(pa.date32()), pa.array([1], pa.timestamp("us")), None),
        (pa.array([1], pa.timestamp("us", "Mars/Olympus")), pa.array([1], pa.timestamp("ns", "Mars/Olympus")), ...),
        (pa.array([b"a" * 16], pa.binary(16)).cast(pa.uuid()), pa.array([b"b" * 16], pa.binary(16)), pa.binary(16)),
    ],
)
def test_a_column_of_another_type_is_merged_without_loss_or_refused_with_both_types(
    tmp_path: Path, first: pa.Array, second: pa.Array, together: Any
) -> None:
    store = open_store(str(tmp_path / "store"))
    commit(store, pa.table({"id": ["a"], "carried:price": first}), [outcome("a", status=Status.BLOCKED)])
    manifest = manifest_of(tmp_path, second)
    if together is None:
        said = f"'price' of m.parquet holds {second.type}, but {first.type} in the store's catalogue"
        with pytest.raises(RequestError, match=re.escape(said)):
            check_carried(read_catalogue(store), manifest)
        return
    check_carried(read_catalogue(store), manifest)
    column = pa.concat_arrays(list(manifest.column("price")))
    ids = [f"m{number}" for number in range(len(column))]
    commit(store, pa.table({"id": ids, "carried:price": column}), [outcome(i, status=Status.BLOCKED) for i in ids])
    merged = read_catalogue(store).table
    assert merged.column("price").type == (second.type if together is ... else together)
    assert merged.column("price").null_count == first.null_count
    check_carried(read_catalogue(store), manifest)


def test_something_else_named_like_the_catalogue_is_refused(store: Store) -> None:
    store.overwrite("catalog.parquet", b"not Parquet")
    with pytest.raises(
        RequestError, match="not a Parquet file that can be read: write the catalogue anew with packshot rebuild"
    ):
        read_catalogue(store)

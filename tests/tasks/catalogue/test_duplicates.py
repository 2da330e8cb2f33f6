"""Which rows repeat an earlier one, and where their pictures lie then."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safety.pictures.likeness import repeats
from tasks.catalogue.catalogue import read_catalogue
from tasks.catalogue.duplicates import settle_duplicates
from tasks.outcome import SCHEMA, Outcome, Status, outcome_table, widened
from tasks.results.master import Masters
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.tasks.catalogue.test_catalogue import outcome, plan
from tests.tasks.catalogues import commit, kept, path_of

ALIKE, ALIKE_TOO, OTHER = "00" * 56, "01" + "00" * 55, "ff" * 56
ASKING = ["unlike"]  # the profiles that allow no picture like another one's


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def made(store: Store, row_id: str, fingerprint: str, minutes: int = 0, **values: Any) -> Outcome:
    """A row that passed, with its picture in the store."""
    key = values.pop("key", f"{row_id * 8}")
    whole = {"profile": "unlike", "key": key, "fingerprint": fingerprint, **kept(store, key), **values}
    return outcome(row_id, minutes, **whole)


def settle(store: Store, ids: list[str], outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """What `finish` does of it; returns the plan's part of the catalogue by id."""
    mine = commit(
        store, plan(id=ids), outcomes, run="run", planned_from=0, settle=lambda mine, _: settle_duplicates(mine, ASKING)
    )
    return {row["id"]: row for row in mine.to_pylist()}


def places(store: Store, rows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, bool, str]]:
    """Each row's status, whether its picture is published, and where the catalogue says that it lies."""
    root = Path(store.uri)
    return {
        row_id: (
            row["status"],
            any((root / "images").rglob(f"{row['key']}-*.png")),
            path_of(store, row["uri"]).partition("/")[0],
        )
        for row_id, row in rows.items()
    }


PUBLISHED, HIDDEN = ("done", True, "images"), ("rejected", False, "masters")


def test_the_row_that_comes_first_in_the_manifest_wins_whatever_ended_first(store: Store) -> None:
    ids = ["c", "a", "d", "b"]
    outcomes = [
        made(store, "a", ALIKE_TOO, 0),
        made(store, "b", ALIKE, 1),
        made(store, "c", ALIKE, 2),
        made(store, "d", OTHER, 3),
    ]
    for seed in range(4):
        random.Random(seed).shuffle(outcomes)
        rows = settle(store, ids, outcomes)
        assert places(store, rows) == {
            "c": PUBLISHED,
            "a": HIDDEN,
            "d": PUBLISHED,
            "b": HIDDEN,
        }
    assert rows["a"]["reason"] == "duplicate"
    assert rows["a"]["message"] == (
        "The picture shows the same as that of the row c, which comes first in the manifest: 1 of 64 bits differ in "
        "structure, and colours by 0 of 255. Two pictures differ in 6 bits or more, or by 8 or more."
    )


def test_a_row_whose_original_has_gone_is_published_again(store: Store) -> None:
    settle(store, ["a", "b"], [made(store, "a", ALIKE), made(store, "b", ALIKE)])
    rows = settle(store, ["b"], [])
    assert places(store, rows) == {"b": PUBLISHED}
    assert (rows["b"]["reason"], rows["b"]["message"]) == (None, None)
    rows = settle(store, ["b", "a"], [])
    assert places(store, rows) == {"b": PUBLISHED, "a": HIDDEN}


def test_settling_again_changes_nothing(store: Store) -> None:
    outcomes = [made(store, "a", ALIKE), made(store, "b", ALIKE)]
    first = settle(store, ["a", "b"], outcomes)
    assert settle(store, ["a", "b"], outcomes) == first  # as after a kill before the summary was written


def test_rows_may_look_alike_where_their_profile_says_nothing(store: Store) -> None:
    outcomes = [
        made(store, "a", ALIKE),
        made(store, "b", ALIKE, profile="none"),
        made(store, "c", ALIKE),
    ]
    rows = settle(store, ["a", "b", "c"], outcomes)
    assert [rows[row_id]["status"] for row_id in "abc"] == ["done", "done", "rejected"]


def test_refused_and_failed_rows_are_nobody_s_original(store: Store) -> None:
    outcomes = [
        made(store, "a", ALIKE, status=Status.REJECTED, reason="concept", message="No."),
        made(store, "b", ALIKE, status=Status.FAILED, reason="internal", message="No."),
        made(store, "c", ALIKE),
    ]
    rows = settle(store, ["a", "b", "c"], outcomes)
    assert [rows[row_id]["reason"] for row_id in "abc"] == ["concept", "internal", None]


def test_a_picture_that_another_manifest_s_row_shows_stays_published(store: Store) -> None:
    shared = "5" * 8
    settle(store, ["old"], [made(store, "old", ALIKE, key=shared)])
    rows = settle(store, ["a", "b"], [made(store, "a", ALIKE), made(store, "b", ALIKE, key=shared)])
    assert places(store, rows) == {"a": PUBLISHED, "b": ("rejected", True, "masters")}


def test_a_former_duplicate_whose_picture_has_gone_is_not_called_done(store: Store) -> None:
    settle(store, ["a", "b"], [made(store, "a", ALIKE), made(store, "b", ALIKE)])
    master = Masters(store).find("b" * 8)
    assert master is not None
    store.delete(master.main.path)
    rows = settle(store, ["b"], [])
    assert (rows["b"]["status"], rows["b"]["reason"]) == ("rejected", "duplicate")


def test_a_catalogue_of_before_has_the_new_columns_empty(store: Store) -> None:
    table = outcome_table([outcome("a")]).drop_columns(["fixes", "marks", "fingerprint", "keeps"])
    assert widened(table).schema == SCHEMA
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.overwrite("catalog.parquet", sink.getvalue().to_pybytes())
    assert read_catalogue(store).table.to_pylist()[0]["marks"] is None
    commit(store, plan(id=["b"]), [outcome("b", status=Status.BLOCKED)])
    assert read_catalogue(store).table.num_rows == 2


def test_fingerprints_of_rows_are_what_is_compared() -> None:
    assert repeats([ALIKE, ALIKE_TOO, OTHER]) == [None, 0, None]

"""Which rows repeat an earlier one, and where their pictures lie then."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safety.likeness import repeats
from safety.profile import Profile
from tasks.catalogue import merge, read_catalogue
from tasks.duplicates import Duplicates
from tasks.encoding import Encoding
from tasks.outcome import Outcome, Status, outcome_table, widened
from tasks.places import clear
from tasks.shelf import PictureShelf
from tasks.store import Store, open_store

from .test_catalogue import outcome, plan

ALIKE, ALIKE_TOO, OTHER = "00" * 56, "01" + "00" * 55, "ff" * 56
PROFILES = {"unlike": Profile(name="unlike", unlike_others=True), "none": Profile(name="none")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def shelf(store: Store) -> PictureShelf:
    return PictureShelf(store, Encoding("png", 92))


def published(shelf: PictureShelf, row_id: str, fingerprint: str, minutes: int = 0, **values: Any) -> Outcome:
    """A row that is done, with its picture in the store."""
    key = values.pop("key", f"{row_id * 8}")
    said = shelf.put("images", key, f"picture {key}".encode())
    whole = {"profile": "unlike", "key": key, "fingerprint": fingerprint, **said, **values}
    return outcome(row_id, minutes, **whole)


def settle(store: Store, shelf: PictureShelf, ids: list[str], outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """What `finish` does of it; returns the plan's part of the catalogue by id."""
    duplicates = Duplicates(PROFILES, shelf)
    mine = merge(store, plan(id=ids), outcome_table(outcomes), settle=lambda mine, _: duplicates.settle(mine))
    clear(duplicates.keys, read_catalogue(store).table, shelf)
    return {row["id"]: row for row in mine.to_pylist()}


def places(store: Store, rows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    """Each row's status, and where its picture lies."""
    root = Path(store.uri)
    lie = {
        row_id: [p.relative_to(root).parts[0] for p in sorted(root.rglob(f"{row['key']}.png"))]
        for row_id, row in rows.items()
    }
    return {row_id: (row["status"], lie[row_id]) for row_id, row in rows.items()}


def test_the_row_that_comes_first_in_the_manifest_wins_whatever_ended_first(store: Store, shelf: PictureShelf) -> None:
    ids = ["c", "a", "d", "b"]
    outcomes = [
        published(shelf, "a", ALIKE_TOO, 0),
        published(shelf, "b", ALIKE, 1),
        published(shelf, "c", ALIKE, 2),
        published(shelf, "d", OTHER, 3),
    ]
    for seed in range(4):
        random.Random(seed).shuffle(outcomes)
        rows = settle(store, shelf, ids, outcomes)
        assert places(store, rows) == {
            "c": ("done", ["images"]),
            "a": ("rejected", ["quarantine"]),
            "d": ("done", ["images"]),
            "b": ("rejected", ["quarantine"]),
        }
    assert rows["a"]["reason"] == "duplicate"
    assert rows["a"]["message"] == (
        "The picture shows the same as that of the row c, which comes first in the manifest: 1 of 64 bits differ in "
        "structure, and colours by 0 of 255. Two pictures differ in 6 bits or more, or by 8 or more."
    )
    assert "quarantine" in rows["a"]["uri"]


def test_a_row_whose_original_has_gone_is_published_again(store: Store, shelf: PictureShelf) -> None:
    settle(store, shelf, ["a", "b"], [published(shelf, "a", ALIKE), published(shelf, "b", ALIKE)])
    rows = settle(store, shelf, ["b"], [])
    assert places(store, rows) == {"b": ("done", ["images"])}
    assert (rows["b"]["reason"], rows["b"]["message"]) == (None, None)
    rows = settle(store, shelf, ["b", "a"], [])
    assert places(store, rows) == {"b": ("done", ["images"]), "a": ("rejected", ["quarantine"])}


def test_settling_again_changes_nothing(store: Store, shelf: PictureShelf) -> None:
    outcomes = [published(shelf, "a", ALIKE), published(shelf, "b", ALIKE)]
    first = settle(store, shelf, ["a", "b"], outcomes)
    assert settle(store, shelf, ["a", "b"], outcomes) == first  # as after a kill before the summary was written


def test_a_kill_between_the_move_and_the_catalogue_loses_no_picture(store: Store, shelf: PictureShelf) -> None:
    outcomes = [published(shelf, "a", ALIKE), published(shelf, "b", ALIKE)]
    table = outcome_table(outcomes)
    Duplicates(PROFILES, shelf).settle(table)
    assert read_catalogue(store).version is None
    assert shelf.find("b" * 8) == "images"  # still where it was, and in quarantine, too
    rows = settle(store, shelf, ["a", "b"], outcomes)
    assert places(store, rows) == {"a": ("done", ["images"]), "b": ("rejected", ["quarantine"])}


def test_rows_may_look_alike_where_their_profile_says_nothing(store: Store, shelf: PictureShelf) -> None:
    outcomes = [
        published(shelf, "a", ALIKE),
        published(shelf, "b", ALIKE, profile="none"),
        published(shelf, "c", ALIKE),
    ]
    rows = settle(store, shelf, ["a", "b", "c"], outcomes)
    assert [rows[row_id]["status"] for row_id in "abc"] == ["done", "done", "rejected"]


def test_refused_and_failed_rows_are_nobody_s_original(store: Store, shelf: PictureShelf) -> None:
    outcomes = [
        published(shelf, "a", ALIKE, status=Status.REJECTED, reason="concept", message="No."),
        published(shelf, "b", ALIKE, status=Status.FAILED, reason="internal", message="No."),
        published(shelf, "c", ALIKE),
    ]
    rows = settle(store, shelf, ["a", "b", "c"], outcomes)
    assert [rows[row_id]["reason"] for row_id in "abc"] == ["concept", "internal", None]


def test_a_picture_that_another_manifest_s_row_shows_stays_published(store: Store, shelf: PictureShelf) -> None:
    shared = "5" * 8
    settle(store, shelf, ["old"], [published(shelf, "old", ALIKE, key=shared)])
    rows = settle(store, shelf, ["a", "b"], [published(shelf, "a", ALIKE), published(shelf, "b", ALIKE, key=shared)])
    assert places(store, rows) == {"a": ("done", ["images"]), "b": ("rejected", ["images", "quarantine"])}


def test_a_former_duplicate_whose_picture_has_gone_is_not_called_done(store: Store, shelf: PictureShelf) -> None:
    settle(store, shelf, ["a", "b"], [published(shelf, "a", ALIKE), published(shelf, "b", ALIKE)])
    shelf.remove("quarantine", "b" * 8)
    rows = settle(store, shelf, ["b"], [])
    assert (rows["b"]["status"], rows["b"]["reason"]) == ("rejected", "duplicate")


def test_a_catalogue_of_before_has_the_new_columns_empty(store: Store) -> None:
    table = outcome_table([outcome("a")]).drop_columns(["fixes", "marks", "fingerprint"])
    assert widened(table).schema == outcome_table([]).schema
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.overwrite("catalog.parquet", sink.getvalue().to_pybytes())
    assert read_catalogue(store).table.to_pylist()[0]["marks"] is None
    merge(store, plan(id=["b"]), outcome_table([outcome("b")]))
    assert read_catalogue(store).table.num_rows == 2


def test_fingerprints_of_rows_are_what_is_compared() -> None:
    assert repeats([ALIKE, ALIKE_TOO, OTHER]) == [None, 0, None]

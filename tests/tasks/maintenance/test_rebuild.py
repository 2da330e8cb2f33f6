"""Rebuild: what the catalogue lost comes back from plans, ledgers and decisions, wherever it is killed."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safety.verdict import Verdict, allow
from tasks.catalogue.catalogue import PATH, STATE, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.errors import RequestError
from tasks.ledger.decision import Answer, Decisions
from tasks.maintenance.prune import leftovers, published
from tasks.maintenance.rebuild import Rebuilt, rebuild
from tasks.manifests.row import BadRow, Row
from tasks.review.decide import answer_for
from tasks.stores.store import Store, StoreError
from tests.faults.stopped_store import killed_after
from tests.simulation import actors
from tests.simulation.actors import Command, careful, lax, strict
from tests.tasks.whole_runs import dead, do, elsewhere, paths, rows, stopped

LAX = Command("lax", ("a", "b"), lax)
TIMES = ("finished_at", "reviewed_at", "changed_in", "planned_from")
P = re.compile(r"-[0-9a-f]+(?=[./][^/]+$)")


def told(store: Store) -> dict[str, dict[str, Any]]:
    """The rows without what a rebuild can't know: names that are used once, versions, times."""
    found = rows(store)
    for row in found.values():
        for name in TIMES:
            del row[name]
        row["uri"] = row["uri"] and P.sub("", row["uri"])
        row["message"] = row["message"] and re.sub(r"\d{4}-\d\d-\d\d at \d\d:\d\d UTC", "then", row["message"])
    return found


def decide(store: Store, row_id: str, answer: Answer, by: str, *, asked: bool = True) -> None:
    answer_for(store, [row_id], answer, by=by, note="", asked=asked)


def a_lot_happens(store: Store) -> None:
    """Runs of many kinds, answers, takedowns, a withdrawal, pictures that are alike."""
    do(store, LAX, Command("careful", ("c", "d", "e", "f"), careful), Command("strict", ("b", "g"), strict))
    decide(store, "c", "approve", "Ann")
    decide(store, "d", "reject", "Bo")
    decide(store, "e", "approve", "Ann")
    decide(store, "e", "reject", "Cleo")
    decide(store, "a", "hold", "Dan", asked=False)
    do(store, Command("two", ("h", "i", "j"), lax), Command("fewer", ("h", "i"), lax, retires=True))
    decide(store, "h", "reject", "Dan", asked=False)
    decide(store, "i", "hold", "Dan", asked=False)
    decide(store, "i", "approve", "Ann")
    do(store, Command("alike", ("k", "l", "m"), careful, unlike=True))
    decide(store, "l", "approve", "Ann")
    decide(store, "m", "approve", "Ann")
    do(store, Command("other words", ("a", "b", "n"), lax, words="a cap"), Command("careful", ("c", "f"), lax))


ENDS = {
    **dict.fromkeys("abn", ("done", None)),
    "c": ("done", None),
    "d": ("rejected", "review_rejected"),
    "e": ("rejected", "review_rejected"),
    "f": ("done", None),
    "g": ("rejected", "concept"),
    "h": ("rejected", "review_rejected"),
    "i": ("done", None),
    "j": ("rejected", "retired"),
    "k": ("rejected", "review"),
    "l": ("done", None),
    "m": ("rejected", "duplicate"),
}


def check(store: Store) -> None:
    """Every row that is done has its picture, whole, and nothing else is published."""
    for row in rows(store).values():
        if row["status"] == "done":
            found = store.read(row["uri"].removeprefix(store.uri).lstrip("/"))
            assert found is not None
            assert hashlib.sha256(found[0]).hexdigest() == row["sha256"]
    assert leftovers(store, published(store)) == []
    state = read_catalogue(store).state
    assert (state.owed, state.editors) == ((), {})


def test_rows_are_what_they_were_when_the_catalogue_is_lost(any_store: Store) -> None:
    a_lot_happens(any_store)
    before, version = told(any_store), read_catalogue(any_store).state.version
    assert {name: (row["status"], row["reason"]) for name, row in before.items()} == ENDS
    any_store.delete(PATH)

    said = rebuild(any_store)

    assert told(any_store) == before
    assert (said.added, said.rows) == (len(before), len(before))
    assert read_catalogue(any_store).state.version > version - 2  # no plan was made from it yet
    check(any_store)
    objects = paths(any_store)
    assert rebuild(any_store) == Rebuilt(said.runs, 0, len(before), 0)
    assert paths(any_store) == objects
    before_names = {row["uri"] for row in rows(any_store).values()}
    do(any_store, LAX, Command("other words", ("a", "b", "n"), lax, words="a cap"))  # runs go on from it
    assert before_names & {row["uri"] for row in rows(any_store).values()}
    check(any_store)


@pytest.mark.parametrize("damage", ["no Parquet", "no state"])
def test_a_catalogue_that_cannot_be_read_gives_way(any_store: Store, damage: str) -> None:
    do(any_store, LAX)
    before = told(any_store)
    content = b"PAR1 and no more"
    if damage == "no state":
        found = any_store.read(PATH)
        assert found is not None
        table = pq.read_table(pa.BufferReader(found[0])).replace_schema_metadata({STATE: b"{"})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        content = sink.getvalue().to_pybytes()
    any_store.overwrite(PATH, content)
    with pytest.raises(RequestError, match=r"packshot rebuild --store"):
        read_catalogue(any_store)
    rebuild(any_store)
    assert told(any_store) == before
    check(any_store)


def test_what_the_catalogue_has_stays_and_what_it_lacks_is_added(any_store: Store) -> None:
    do(any_store, LAX, Command("strict", ("c",), strict))
    lost = told(any_store)
    any_store.delete(PATH)
    do(any_store, Command("anew", ("a", "d"), lax, words="a cap"))
    kept = rows(any_store)

    said = rebuild(any_store)

    assert said.added == 2
    found = rows(any_store)
    assert {name: found[name] for name in kept} == kept
    assert {name: told(any_store)[name] for name in "bc"} == {name: lost[name] for name in "bc"}
    check(any_store)


def test_an_old_run_that_was_never_ended_does_not_hide_what_came_after_it(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(any_store, LAX)
    unfinished = Command("unfinished", ("a", "o"), strict)
    stopped(monkeypatch, any_store, unfinished, before="settle")
    do(any_store, Command("careful", ("a", "b"), careful))
    before = told(any_store)
    any_store.delete(PATH)
    rebuild(any_store)
    assert {name: told(any_store)[name] for name in before} == before
    assert told(any_store)["o"]["reason"] == "concept"
    check(any_store)


def test_runs_that_overlapped_count_as_they_were_committed(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    do(any_store, LAX)
    late, early = Command("late", ("a", "c"), strict), Command("early", ("a", "b"), careful)
    settle = actors.settle

    def others_first(*args: Any) -> Any:
        monkeypatch.setattr(actors, "settle", settle)
        do(any_store, early)
        return settle(*args)

    monkeypatch.setattr(actors, "settle", others_first)
    do(any_store, late)
    before = told(any_store)
    # The one that was committed last had the older plan.
    assert {name: row["run"] for name, row in before.items()} == {"a": "early", "b": "early", "c": "late"}
    any_store.delete(PATH)
    rebuild(any_store)
    assert told(any_store) == before


def test_bad_rows_come_back(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Any, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        for index, row_id in enumerate(batch.column("id").to_pylist()):
            yield index, BadRow(row_id, "a mug", "Its width is no number.")

    with monkeypatch.context() as patch:
        patch.setattr(actors.Rows, "read", read)
        do(any_store, Command("bad", ("x", "y"), lax), Command("good", ("z",), lax))
    do(any_store, LAX)
    before = told(any_store)
    assert (before["x"]["status"], before["x"]["model"]) == ("failed", "model")
    any_store.delete(PATH)
    rebuild(any_store)
    assert told(any_store) == before


def test_nobody_may_edit_meanwhile(any_store: Store) -> None:
    do(any_store, LAX)
    CatalogueEdit(any_store, "run 0123456789ab", elsewhere()).come_in()
    ((name, _),) = read_catalogue(any_store).state.editors.items()
    before = any_store.read(PATH)
    with pytest.raises(RequestError, match=rf"in use by run 0123456789ab .*--strike {name}"):
        rebuild(any_store)
    assert any_store.read(PATH) == before


def test_a_dead_process_is_in_nobody_s_way(any_store: Store) -> None:
    do(any_store, LAX)
    CatalogueEdit(any_store, "run 0123456789ab", dead()).come_in()
    rebuild(any_store)
    check(any_store)


def test_an_empty_store_stays_empty(any_store: Store) -> None:
    with pytest.raises(RequestError, match=r"nothing in .* that a catalogue could be made from"):
        rebuild(any_store)
    assert paths(any_store) == set()


def test_a_plan_that_cannot_be_read_is_named(any_store: Store) -> None:
    do(any_store, LAX)
    any_store.overwrite("runs/lax/plan.parquet", b"PAR1")
    any_store.delete(PATH)
    with pytest.raises(StoreError, match=r"runs/lax/plan\.parquet is damaged"):
        rebuild(any_store)


def test_a_picture_whose_master_is_gone_fails_with_a_sentence(any_store: Store) -> None:
    do(any_store, LAX)
    key = rows(any_store)["a"]["key"]
    for path in paths(any_store, f"masters/{key[:2]}"):
        if key in path:
            any_store.delete(path)
    any_store.delete(PATH)
    rebuild(any_store)
    found = rows(any_store)
    assert (found["a"]["status"], found["a"]["uri"], found["a"]["retryable"]) == ("failed", None, True)
    assert found["b"]["status"] == "done"
    check(any_store)


def test_a_decision_that_cannot_be_read_refuses(any_store: Store) -> None:
    do(any_store, LAX)
    decide(any_store, "a", "hold", "Dan", asked=False)
    row = rows(any_store)["a"]
    any_store.overwrite(Decisions(any_store).path(row["key"], row["prompt"], 0), b"{")
    any_store.delete(PATH)
    rebuild(any_store)
    assert {name: row["status"] for name, row in rows(any_store).items()} == {"a": "rejected", "b": "done"}


def nearly(_: str) -> Verdict:
    return allow({"weapon": 0.5})


def test_a_rebuild_that_is_killed_after_any_write_is_ended_by_the_same_command(folder: Store, tmp_path: Path) -> None:
    do(folder, LAX, Command("nearly", ("c", "d"), nearly), Command("careful", ("b", "e"), careful))
    decide(folder, "e", "approve", "Ann")
    decide(folder, "d", "reject", "Bo", asked=False)
    expected = told(folder)
    folder.delete(PATH)
    template = tmp_path / "template"
    shutil.copytree(folder.uri, template)
    for most in itertools.count():
        shutil.rmtree(folder.uri)
        shutil.copytree(template, folder.uri)
        with killed_after(most) as writes:
            try:
                rebuild(folder)
            except StoreError:
                assert writes.stopped
        rebuild(folder)
        assert told(folder) == expected, most
        check(folder)
        if not writes.stopped:
            break
    assert most > 8

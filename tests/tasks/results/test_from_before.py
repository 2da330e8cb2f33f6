"""Stores from before there were masters: found as they are, brought over when a row is touched, killed anywhere."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.catalogue.catalogue import FORMAT, PATH, STATE, read_catalogue
from tasks.errors import RequestError
from tasks.ledger.decision import Answer
from tasks.maintenance.prune import leftovers, prune, published
from tasks.maintenance.rebuild import rebuild
from tasks.outcome import RENAMED, Retry
from tasks.results.master import Masters
from tasks.review.decide import answer_for, waiting
from tasks.stores.store import Store
from tests.faults.stopped_store import left_by_kills
from tests.simulation import actors
from tests.simulation.actors import Command, lax, strict
from tests.tasks.results.old_store import LAYERS, OLD_ADDED, OLD_COLUMNS, fill, key_of, layers_key, mixed, picture
from tests.tasks.whole_runs import do, paths, rows

SAME = Command("mixed", tuple("abcd"), mixed)
KILLED = Command("killed", ("e", "f"), mixed, shard_rows=1)
TIMES = ("finished_at", "reviewed_at", "changed_in", "planned_from", "message")


@pytest.fixture
def old(any_store: Store) -> Store:
    fill(any_store)
    return any_store


@pytest.fixture
def old_folder(folder: Store) -> Store:
    fill(folder)
    return folder


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.Stages, "made", None)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of rows that are judged."""
    seen: list[str] = []
    judge = actors.Stages._judged

    def noting(self: Any, row: Any, *what: Any, **where: Any) -> Any:
        seen.append(row.id)
        return judge(self, row, *what, **where)

    monkeypatch.setattr(actors.Stages, "_judged", noting)
    return seen


def check(store: Store) -> None:
    """What is done is where its row says, whole."""
    for row in rows(store).values():
        if row["status"] == "done":
            found = store.read(row["uri"].removeprefix(store.uri).lstrip("/"))
            assert found is not None
            assert hashlib.sha256(found[0]).hexdigest() == row["sha256"]
            assert len(row["layer_uris"]) == (LAYERS if row["id"] in "uvw" else 0)
            assert all(store.exists(uri.removeprefix(store.uri).lstrip("/")) for uri in row["layer_uris"])


def ends(store: Store) -> dict[str, tuple[str, str | None]]:
    return {name: (row["status"], row["reason"]) for name, row in rows(store).items()}


ENDS = {
    "a": ("done", None),
    "b": ("rejected", "concept"),
    "c": ("rejected", "review"),
    "d": ("blocked", "blocklist"),
    "u": ("done", None),
    "v": ("rejected", "concept"),
    "w": ("rejected", "review"),
}


@pytest.mark.usefixtures("nothing_is_drawn")
def test_the_same_job_leaves_it_as_it_is(old: Store, judged: list[str]) -> None:
    before = {path: old.read(path) for path in paths(old)}
    do(old, SAME)
    assert {path: old.read(path) for path in paths(old)} == before
    assert judged == []
    assert ends(old) == ENDS
    assert [row.id for row in waiting(old.uri)] == ["c", "w"]
    assert rows(old)["v"]["price"] == 5
    check(old)


def test_only_a_new_row_is_drawn_and_addresses_stay_valid(old: Store, judged: list[str]) -> None:
    before = {name: (row["uri"], row["layer_uris"]) for name, row in rows(old).items()}
    do(old, Command("more", tuple("abcdn"), mixed))
    assert judged == ["n"]
    assert {name: (row["uri"], row["layer_uris"]) for name, row in rows(old).items() if name != "n"} == before
    assert ends(old) == ENDS | {"n": ("done", None)}
    assert read_catalogue(old).state.from_before
    check(old)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_run_that_was_killed_then_is_gone_on_with(old: Store, judged: list[str]) -> None:
    do(old, KILLED)
    assert judged == ["f"]  # of e there was a ledger
    assert ends(old) == ENDS | {"e": ("done", None), "f": ("done", None)}
    for name in "ef":
        assert old.read(rows(old)[name]["uri"].removeprefix(old.uri).lstrip("/")) == (picture(name), mine(old, name))
    assert leftovers(old, published(old)) == [
        one for one in published(old) if key_of("d") in one.path or (key_of("f") in one.path and "-" not in one.path)
    ]
    check(old)


def mine(store: Store, row_id: str) -> str:
    found = store.read(rows(store)[row_id]["uri"].removeprefix(store.uri).lstrip("/"))
    assert found is not None
    return found[1]


Step = tuple[str, Answer, bool]
ANSWERS: dict[str, tuple[list[Step], dict[str, tuple[str, str | None]]]] = {
    "approve": ([("c", "approve", True), ("w", "approve", True)], {"c": ("done", None), "w": ("done", None)}),
    "reject": (
        [("c", "reject", True), ("w", "reject", True)],
        {"c": ("rejected", "review_rejected"), "w": ("rejected", "review_rejected")},
    ),
    "takedown": (
        [("a", "reject", False), ("u", "reject", False)],
        {"a": ("rejected", "review_rejected"), "u": ("rejected", "review_rejected")},
    ),
    "a hold, and its end": (
        [("a", "hold", False), ("u", "hold", False), ("a", "approve", True), ("u", "approve", True)],
        {"a": ("done", None), "u": ("done", None)},
    ),
    "approve, and take it back": (
        [("c", "approve", True), ("w", "approve", True), ("c", "reject", True), ("w", "reject", True)],
        {"c": ("rejected", "review_rejected"), "w": ("rejected", "review_rejected")},
    ),
}


def answer(store: Store, steps: list[Step]) -> None:
    for row_id, what, asked in steps:
        answer_for(store, [row_id], what, by="Ann", note="", asked=asked)


def check_touched(store: Store, touched: set[str]) -> None:
    """Rows that were touched have masters, and lie nowhere else but where their rows say."""
    for name in touched:
        key = layers_key(name) if name in "uvw" else key_of(name)
        master = Masters(store).find(key)
        assert master is not None
        assert master.caption == (f"a mug {name}" if name in "uvw" else "")
        row = rows(store)[name]
        folder = row["uri"].removeprefix(store.uri).lstrip("/").rpartition("/")[0]
        places = {path.split("/")[0] for path in paths(store, "images", "layers", "quarantine") if key in path}
        assert places == ({folder.split("/")[0]} if row["status"] == "done" else set())
        if row["status"] != "done":
            assert row["uri"] == store.uri_of(master.main.path)


@pytest.mark.parametrize("doing", [*ANSWERS])
def test_answers_and_takedowns_work_on_it(old: Store, doing: str) -> None:
    steps, changed = ANSWERS[doing]
    answer(old, steps)
    assert ends(old) == ENDS | changed
    check(old)
    check_touched(old, {*changed})


@pytest.mark.usefixtures("nothing_is_drawn")
def test_another_policy_judges_what_lies_there(old: Store, judged: list[str]) -> None:
    do(old, Command("strict", tuple("abcd"), strict))
    assert judged == [*"abcd"]
    assert ends(old) == ENDS | dict.fromkeys("abcd", ("rejected", "concept"))
    check_touched(old, {*"abc"})
    do(old, Command("lax", tuple("abcd"), lax))
    assert ends(old) == ENDS | dict.fromkeys("abcd", ("done", None))
    check(old)
    check_touched(old, {*"abc"})


def test_a_prune_leaves_all_that_rows_and_the_killed_run_need(old: Store) -> None:
    before = paths(old) | {PATH}
    prune(old, kept_for=timedelta(0))
    assert paths(old) == before
    prune(old, kept_for=timedelta(0), statuses=frozenset({Retry.REJECTED}))
    gone = {path for path in before for key in (key_of("b"), layers_key("v")) if key in path}
    assert before - paths(old) == gone
    assert ends(old) == ENDS
    check(old)


@pytest.mark.usefixtures("nothing_is_drawn")
def test_its_catalogue_can_be_written_anew(old: Store, judged: list[str]) -> None:
    answer(old, [("c", "approve", True), ("a", "hold", False)])
    expected = {name: ending for name, ending in ends(old).items() if name in "abcd"}
    old.delete(PATH)
    rebuild(old)
    assert ends(old) == expected | {"e": ("done", None)}  # layers had no run in this store
    check(old)
    do(old, SAME, KILLED)
    assert judged == ["f"]
    assert ends(old) == expected | {"e": ("done", None), "f": ("done", None)}
    check(old)


def told(store: Store) -> dict[str, dict[str, Any]]:
    """The rows without names that are used once, versions, times."""
    found = rows(store)
    for row in found.values():
        for name in TIMES:
            del row[name]
        row["uri"] = row["uri"] and row["uri"].partition("-")[0].partition(".png")[0]
        row["layer_uris"] = len(row["layer_uris"])
    return found


DOINGS: dict[str, Callable[[Store], None]] = {
    **{name: (lambda store, steps=steps: answer(store, steps)) for name, (steps, _) in ANSWERS.items()},  # type: ignore[misc]
    "another policy": lambda store: do(store, Command("strict", tuple("abcd"), strict)),
    "the killed run": lambda store: do(store, KILLED),
}


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("doing", [*DOINGS])
def test_what_is_killed_after_any_write_is_ended_by_the_same_command(
    old_folder: Store, tmp_path: Path, doing: str
) -> None:
    """After every second write, of which neighbours in the list have the even and the odd ones: they share most."""
    digests = {hashlib.sha256(picture(name)).hexdigest() for name in "abcdef"}
    folder = Path(old_folder.uri)
    kills = left_by_kills(
        folder, tmp_path / "left", lambda: DOINGS[doing](old_folder), first=[*DOINGS].index(doing) % 2, step=2
    )
    expected, objects = told(old_folder), {path.partition("-")[0] for path in paths(old_folder, "images", "layers")}
    for left in kills:
        shutil.rmtree(folder)
        left.rename(folder)
        check(old_folder)
        assert digests <= {
            hashlib.sha256((folder / path).read_bytes()).hexdigest()
            for path in paths(old_folder, "images", "quarantine", "masters")
        }
        DOINGS[doing](old_folder)
        assert told(old_folder) == expected, left
        check(old_folder)
        assert {path.partition("-")[0] for path in paths(old_folder, "images", "layers")} == objects, left
    assert len(kills) > 4


def test_an_older_packshot_refuses_a_store_that_was_brought_over(old: Store) -> None:
    def missing() -> set[str]:
        """What the packshot of then missed in a catalogue: it refused one that lacks anything."""
        found = old.read(PATH)
        assert found is not None
        return {*OLD_COLUMNS} - {*pq.read_schema(pa.BufferReader(found[0])).names} - {*OLD_ADDED}

    assert missing() == set()
    answer(old, [("c", "approve", True)])
    assert missing() == {*RENAMED}
    assert {*RENAMED} == {"judged_by"}


def test_a_store_of_a_newer_packshot_is_refused(folder: Store) -> None:
    do(folder, SAME)
    table = read_catalogue(folder).table
    state = {"format": FORMAT + 1, "version": 7, "something": "that isn't known here"}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({STATE: json.dumps(state).encode()}), sink)
    folder.overwrite(PATH, content := sink.getvalue().to_pybytes())
    for doing in (
        lambda: do(folder, Command("other", ("a",), lax)),
        lambda: answer_for(folder, ["a"], "hold", by="Ann", note="", asked=False),
        lambda: prune(folder),
        lambda: rebuild(folder),
    ):
        with pytest.raises(RequestError, match=r"was written by a newer packshot: use that one\."):
            doing()
    assert (folder.read(PATH) or (b"",))[0] == content

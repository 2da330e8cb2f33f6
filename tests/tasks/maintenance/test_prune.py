"""Prune: what nothing refers to goes when it is old, and nothing else does, wherever it is killed."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from safety.verdict import Reason, Verdict, refuse
from tasks.catalogue.catalogue import PATH, content_of, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.errors import RequestError
from tasks.ledger.plan import Plan
from tasks.maintenance import prune as pruning
from tasks.maintenance.prune import Pruned, leftovers, prune, published, strike
from tasks.outcome import Retry
from tasks.processes.process import this_process
from tasks.results.master import Masters, record_path
from tasks.review.decide import answer_for
from tasks.runs.take_up import find_run, take_up
from tasks.stores.store import Store
from tests.faults.stopped_store import left_by_kills
from tests.simulation import actors
from tests.simulation.actors import Command, careful, lax, strict
from tests.tasks.whole_runs import aged, do, elsewhere, key_of, paths, rows, stopped

NOW = timedelta(0)
LAX, STRICT = Command("lax", ("a", "b"), lax), Command("strict", ("a", "b"), strict)


def everything(pruned: Pruned) -> set[str]:
    return {one.path for group in pruned.groups() for one in group}


def test_all_that_rows_refer_to_stays(any_store: Store) -> None:
    do(any_store, LAX, Command("careful", ("c", "d"), careful), Command("strict", ("e",), strict))
    answer_for(any_store, ["a"], "reject", by="Ann", note="", asked=False)
    before = paths(any_store)

    assert everything(prune(any_store, kept_for=NOW)) == set()

    assert paths(any_store) == before
    do(any_store, Command("again", ("a", "b", "c", "d", "e"), careful))
    assert {name: row["reason"] for name, row in rows(any_store).items()} == {
        "a": "review_rejected",
        **dict.fromkeys("bcde", "review"),
    }
    again = {name: row["seconds"] for name, row in rows(any_store).items() if row["run"] == "again"}
    assert again == dict.fromkeys("abe", 0)  # judged again, not drawn


def test_what_no_row_has_any_more_goes(any_store: Store) -> None:
    do(any_store, LAX)
    old = {name: row["key"] for name, row in rows(any_store).items()}
    do(any_store, Command("other words", ("a", "b"), lax, words="a cap"))
    new = {row["key"] for row in rows(any_store).values()}
    assert new.isdisjoint(old.values())

    said = prune(any_store, kept_for=NOW, dry_run=True)
    before = paths(any_store)
    pruned = prune(any_store, kept_for=NOW)

    assert everything(said) == everything(pruned) == before - paths(any_store)
    assert {one.path.split("/")[2].removesuffix(".json") for one in pruned.masters} == set(old.values())
    assert {one.path.split("/")[1] for one in pruned.runs} == {"lax"}
    assert {row["status"] for row in rows(any_store).values()} == {"done"}
    assert all(any_store.exists(row["uri"].removeprefix(any_store.uri).lstrip("/")) for row in rows(any_store).values())
    assert everything(prune(any_store, kept_for=NOW)) == set()


def test_only_what_is_old_goes(folder: Store) -> None:
    do(folder, LAX, Command("other words", ("a", "b"), lax, words="a cap"))
    assert everything(prune(folder)) == set()
    aged(folder, 31, "masters", "runs")
    store_before = paths(folder)
    assert everything(prune(folder, kept_for=timedelta(days=32))) == set()
    assert everything(prune(folder)) == store_before - paths(folder)
    assert paths(folder, "masters") == {
        path for name in "ab" for path in [record_path(key_of(folder, name)), *_parts(folder, key_of(folder, name))]
    }


def _parts(store: Store, key: str) -> list[str]:
    master = Masters(store).find(key)
    assert master is not None
    return [part.path for part in master.parts.values()]


def test_masters_of_rows_that_ended_so_go_when_that_is_asked_for(any_store: Store) -> None:
    do(any_store, LAX, Command("strict", ("c", "d"), strict), Command("careful", ("e",), careful))
    keys = {name: row["key"] for name, row in rows(any_store).items()}

    pruned = prune(any_store, kept_for=NOW, statuses=frozenset({Retry.REJECTED}))

    assert {one.path.split("/")[2].removesuffix(".json") for one in pruned.masters} == {keys["c"], keys["d"]}
    found = rows(any_store)
    assert {name for name, row in found.items() if row["uri"] is None} == {"c", "d"}
    assert found["e"]["reason"] == "review"  # it may be published one day
    do(any_store, Command("lax again", ("c", "d", "e"), lax))
    assert {row["status"] for row in rows(any_store).values()} == {"done"}
    assert {name for name, row in rows(any_store).items() if row["run"] == "lax again" and row["seconds"]} == {"c", "d"}


def unsure(_: str) -> Verdict:
    return refuse(Reason.CLASSIFIER_FAILED, "The picture could not be judged.")


def test_what_was_not_judged_or_repeats_another_row_s_picture_stays_whatever_is_asked_for(any_store: Store) -> None:
    do(any_store, Command("unsure", ("a",), unsure), Command("alike", ("b", "c"), lax, unlike=True))
    reasons = {name: row["reason"] for name, row in rows(any_store).items()}
    assert reasons == {"a": "classifier_failed", "b": None, "c": "duplicate"}
    assert everything(prune(any_store, kept_for=NOW, statuses=frozenset(Retry))) == set()


@pytest.mark.parametrize("before", ["ledger", "settle"])
def test_what_an_unfinished_run_needs_stays(any_store: Store, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    do(any_store, LAX)
    other = Command("other words", ("a", "b"), lax, words="a cap")
    stopped(monkeypatch, any_store, other, before=before)
    needed = paths(any_store, "masters", "runs")
    assert read_catalogue(any_store).state.editors  # it was killed

    assert everything(prune(any_store, kept_for=NOW)) == set()

    assert paths(any_store, "masters", "runs") == needed
    assert not read_catalogue(any_store).state.editors
    with monkeypatch.context() as patch:
        patch.setattr(actors.Stages, "made", None)  # nothing is drawn again
        do(any_store, other)
    assert {row["status"] for row in rows(any_store).values()} == {"done"}
    assert paths(any_store, "runs/other words") >= {"runs/other words/summary.json"}


def test_a_run_that_nobody_went_on_with_for_a_month_goes_and_begins_anew(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(folder, LAX)
    other = Command("other words", ("a", "b", "c"), lax, words="a cap")
    stopped(monkeypatch, folder, other, before="settle")
    aged(folder, 31, "")

    assert {one.path.split("/")[1] for one in prune(folder).runs} == {"other words"}

    assert paths(folder, "runs/other words") == set()
    do(folder, other)
    assert {row["prompt"] for row in rows(folder).values()} == {"a cap a", "a cap b", "a cap c"}


def test_runs_of_one_command_go_together(any_store: Store) -> None:
    other = Command("other words", ("a", "b"), lax, words="a cap")
    do(any_store, LAX, other, LAX)
    assert {row["run"] for row in rows(any_store).values()} == {"lax.2"}
    assert {one.path.split("/")[1] for one in prune(any_store, kept_for=NOW).runs} == {"other words"}
    assert "runs/lax/summary.json" in paths(any_store)  # else the command would find the first of its runs missing
    do(any_store, LAX)
    assert {row["run"] for row in rows(any_store).values()} == {"lax.2"}


def test_a_run_that_withdrew_rows_stays_for_a_rebuild(any_store: Store) -> None:
    do(any_store, LAX, Command("fewer", ("a",), lax, retires=True))
    assert rows(any_store)["b"]["reason"] == "retired"
    assert everything(prune(any_store, kept_for=NOW)) == set()
    do(any_store, Command("b again", ("b",), lax), Command("no more", ("b",), strict, words="a cap"))
    gone = {one.path.split("/")[1] for one in prune(any_store, kept_for=NOW).runs}
    assert gone == {"fewer", "b again"}  # no row is withdrawn any more


def test_source_pictures_of_unfinished_runs_stay(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    do(any_store, LAX)
    names = {which: f"sources/{digit * 2}/{digit * 64}" for which, digit in (("needed", "a"), ("not", "b"))}
    masks = {which: f"{path}.mask-0123456789abcdef.png" for which, path in names.items()}
    for path in (*names.values(), *masks.values()):
        any_store.put_once(path, path.encode())
    monkeypatch.setattr(pruning, "_plan", lambda *_: pa_plan("a" * 64))
    any_store.put_once("runs/unfinished/plan.parquet", b"a plan")

    prune(any_store, kept_for=NOW)

    assert paths(any_store, "sources") == {names["needed"], masks["needed"]}


def pa_plan(source: str) -> Any:
    import pyarrow as pa

    return pa.table({"key": ["c" * 64], "source": [source]})


def test_what_is_not_called_as_packshot_calls_its_own_stays(any_store: Store) -> None:
    do(any_store, LAX)
    others = {"images/logo.png", "masters/readme.txt", "sources/list.csv", "runs/notes.txt", "images/ab/x.png", "x/y"}
    for path in others:
        any_store.put_once(path, b"somebody's")
    prune(any_store, kept_for=NOW)
    assert others <= paths(any_store)


def test_leftovers_of_killed_publishers_and_second_makers_go(any_store: Store) -> None:
    do(any_store, LAX)
    key = key_of(any_store, "a")
    stray = f"masters/{key[:2]}/{key}/{'0' * 16}.picture.png"
    publications = {f"images/{key[:2]}/{key}-0123.png", f"layers/{key[:2]}/{key}-0123/0.png"}
    for path in (stray, *publications):
        any_store.put_once(path, b"left")
    assert everything(prune(any_store, kept_for=NOW)) == {stray, *publications}
    assert {row["status"] for row in rows(any_store).values()} == {"done"}
    assert leftovers(any_store, published(any_store)) == []


def test_pictures_from_before_there_were_masters_stay_as_long_as_a_row_has_their_key(any_store: Store) -> None:
    do(any_store, LAX)
    key = key_of(any_store, "a")
    needed = {f"{place}/{key[:2]}/{key}.png" for place in ("images", "quarantine")}
    needed |= {f"layers/{key[:2]}/{key}/{name}" for name in ("0.png", "composite.png", "caption.txt")}
    others = {path.replace(key, key[:2] + "0" * 62) for path in needed}
    for path in needed | others:
        any_store.put_once(path, b"from before")
    assert everything(prune(any_store, kept_for=NOW)) == others
    assert needed <= paths(any_store)


def test_quarantined_rows_from_before_go_by_their_status(any_store: Store) -> None:
    do(any_store, STRICT)
    found = read_catalogue(any_store)
    key = key_of(any_store, "a")
    path = f"quarantine/{key[:2]}/{key}.png"
    any_store.put_once(path, b"from before")
    table = found.table.to_pylist()
    table[0]["uri"] = any_store.uri_of(path)
    changed = found.table.from_pylist(table, schema=found.table.schema)
    any_store.replace(PATH, content_of(changed, replace(found.state, from_before=True)), expect=found.token)

    assert path not in everything(prune(any_store, kept_for=NOW))
    assert path in everything(prune(any_store, kept_for=NOW, statuses=frozenset({Retry.REJECTED}), dry_run=True))
    assert path in everything(prune(any_store, kept_for=NOW, statuses=frozenset({Retry.REJECTED})))
    assert paths(any_store, "quarantine", "masters") == set()
    assert [row["uri"] for row in rows(any_store).values()] == [None, None]


def test_a_store_without_a_catalogue_is_not_pruned(any_store: Store) -> None:
    do(any_store, LAX)
    any_store.delete(PATH)
    for dry_run in (True, False):
        with pytest.raises(RequestError, match=r"no catalogue in .*packshot rebuild --store"):
            prune(any_store, kept_for=NOW, dry_run=dry_run)
    assert not any_store.exists(PATH)


def test_a_catalogue_that_was_lost_and_begun_anew_is_not_pruned_by(any_store: Store) -> None:
    do(any_store, LAX, STRICT, LAX)
    any_store.delete(PATH)
    do(any_store, Command("another manifest", ("c",), lax))
    before = paths(any_store)
    with pytest.raises(RequestError, match=r"was lost, and begun anew.*packshot rebuild --store"):
        prune(any_store, kept_for=NOW)
    assert paths(any_store) == before
    assert not read_catalogue(any_store).state.editors


def test_nobody_prunes_beside_anybody_and_a_dead_one_is_struck_by_name(any_store: Store) -> None:
    do(any_store, LAX)
    CatalogueEdit(any_store, "run 0123456789ab", elsewhere()).come_in()
    ((name, _),) = read_catalogue(any_store).state.editors.items()
    with pytest.raises(RequestError, match=rf"run 0123456789ab \(process 17 on elsewhere.*--strike {name}"):
        prune(any_store, kept_for=NOW)
    with pytest.raises(RequestError, match=rf"No process called x edits .*{name}: run 0123456789ab"):
        strike(any_store, "x")
    assert strike(any_store, name).startswith("run 0123456789ab (process 17 on elsewhere, since ")
    prune(any_store, kept_for=NOW)
    with pytest.raises(RequestError, match="There is nobody"):
        strike(any_store, name)


def test_one_that_lives_on_this_machine_is_not_struck(any_store: Store) -> None:
    do(any_store, LAX)
    edit = CatalogueEdit(any_store, "review")
    name = edit.come_in()
    with pytest.raises(RequestError, match=rf"process {os.getpid()} on {socket.gethostname()}.* is alive"):
        strike(any_store, name)
    assert name in read_catalogue(any_store).state.editors
    edit.leave()


def test_what_a_plan_is_made_from_is_planned_again_when_the_store_was_pruned_meanwhile(
    any_store: Store, tmp_path: Path
) -> None:
    do(any_store, LAX)
    drafts: list[int] = []
    source = f"sources/aa/{'a' * 64}"

    def draft(catalogue: Any) -> bool:
        any_store.adopt_or_put(source, b"a picture that the manifest holds")
        drafts.append(catalogue.state.version)
        (tmp_path / "plan").write_bytes(b"plan")
        if len(drafts) == 1:
            prune(any_store, kept_for=NOW)
            assert not any_store.exists(source)
        return True

    found = find_run("other", any_store)
    taken = take_up(any_store, found, tmp_path / "plan", draft, document={}, process=this_process())

    assert len(drafts) == 2
    assert any_store.exists(source)
    assert taken.plan == Plan(tmp_path / "plan")
    CatalogueEdit(any_store, "run other", name=taken.editor).leave()


@pytest.mark.parametrize("statuses", [frozenset(), frozenset({Retry.REJECTED})], ids=["unneeded", "rejected"])
def test_a_prune_that_is_killed_after_any_write_is_ended_by_the_next_one(
    folder: Store, tmp_path: Path, statuses: frozenset[Retry], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Command("other words", ("a", "b"), lax, words="a cap")
    do(folder, LAX, other, Command("strict", ("c",), strict))
    monkeypatch.setattr(pruning, "KEPT_FOR", NOW)  # what is left of a run counts as one that hasn't ended
    kills = left_by_kills(
        Path(folder.uri), tmp_path / "left", lambda: prune(folder, kept_for=NOW, statuses=statuses), first=0, step=1
    )
    expected = paths(folder)
    commands = [LAX, other, Command("strict", ("c",), strict)]

    for left in kills:
        for goes_on in (True, False):
            shutil.rmtree(folder.uri)
            shutil.copytree(left, folder.uri)
            check_done(folder)
            if goes_on:
                prune(folder, kept_for=NOW, statuses=statuses)
                assert paths(folder) == expected, left
                check_done(folder)
                continue
            do(folder, *commands)  # whatever is left of their runs misleads nobody
            check_done(folder)
            assert {name: (row["status"], row["prompt"]) for name, row in rows(folder).items()} == {
                "a": ("done", "a cap a"),
                "b": ("done", "a cap b"),
                "c": ("rejected", "a mug c"),
            }
    assert len(kills) > 9


def check_done(store: Store) -> None:
    for row in rows(store).values():
        assert row["status"] != "done" or Path(row["uri"]).is_file()

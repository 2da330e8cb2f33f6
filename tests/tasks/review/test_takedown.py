"""Takedowns: what is withdrawn stays so, and no run works on it in vain."""

from __future__ import annotations

import pytest

from safety.verdict import Verdict, ask
from tasks.catalogue.catalogue import read_catalogue
from tasks.review.decide import answer_for
from tasks.stores.store import Store
from tests.simulation import actors
from tests.simulation.actors import Command, careful, lax
from tests.tasks.whole_runs import do, paths, rows

LAX = Command("lax", ("a", "b"), lax)


def answer(store: Store, what: str, *, asked: bool) -> None:
    (told,) = answer_for(store, ["a"], what, by="Ann", note="", asked=asked)  # type: ignore[arg-type]
    assert told.holds


def test_what_is_held_back_is_not_judged_again_by_every_run(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    do(folder, LAX)
    answer(folder, "hold", asked=False)
    before = paths(folder)
    with monkeypatch.context() as patch:
        patch.setattr(actors.Stages, "_judged", None)
        do(folder, LAX)
        assert paths(folder) == before
        answer(folder, "approve", asked=True)
        do(folder, LAX)
    assert {name: row["status"] for name, row in rows(folder).items()} == {"a": "done", "b": "done"}


@pytest.mark.parametrize("judge", [lax, careful])
def test_what_was_taken_down_for_good_stays_so_under_another_policy(folder: Store, judge: actors.Judge) -> None:
    do(folder, LAX)
    answer(folder, "reject", asked=False)
    do(folder, Command("other", ("a", "b"), judge))
    row = rows(folder)["a"]
    assert (row["status"], row["reason"], row["reviewed_by"]) == ("rejected", "review_rejected", "Ann")
    assert not any(row["key"] in path for path in paths(folder, "images"))
    assert not read_catalogue(folder).state.owed


def test_an_answer_to_another_question_does_not_have_a_row_judged_by_every_run(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(folder, Command("careful", ("a",), careful))
    answer(folder, "approve", asked=True)
    other = Command("other", ("a",), asks_for_something_else)
    do(folder, other)
    assert rows(folder)["a"]["reason"] == "review"
    before = paths(folder)
    monkeypatch.setattr(actors.Stages, "_judged", None)
    do(folder, other)
    assert paths(folder) == before


def asks_for_something_else(_: str) -> Verdict:
    return ask({"drugs": 0.1}, "A person must look.")

"""Answers to what waits: who and when, which rows share one, and what stands in the way of one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safety.verdict import Reason, allow, ask, refuse
from tasks.catalogue.catalogue import read_catalogue
from tasks.errors import RequestError
from tasks.ledger.decision import Decision, DecisionHistory, Decisions
from tasks.outcome import Outcome, Status
from tasks.results.master import Masters
from tasks.review.decide import decide, waiting
from tasks.review.reviews import Reviews
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.tasks.catalogue.test_catalogue import outcome, plan
from tests.tasks.catalogue.test_duplicates import ALIKE, ALIKE_TOO, OTHER
from tests.tasks.catalogues import commit, kept, published

ASKS = {"status": Status.REJECTED, "reason": Reason.REVIEW, "message": "A person must look.", "asks": {"weapon": 0.1}}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_store_uri"))


def waits(store: Store, row_id: str, **values: Any) -> Outcome:
    key = values.pop("key", row_id * 64)
    return outcome(row_id, **{"key": key, **ASKS, **kept(store, key), **values})


def done(store: Store, row_id: str, **values: Any) -> Outcome:
    key = values.pop("key", row_id * 64)
    return outcome(row_id, **{"key": key, **kept(store, key), **values})


def fill(store: Store, *outcomes: Outcome) -> None:
    commit(store, plan(id=[one.id for one in outcomes]), [*outcomes])


def rows(store: Store) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_catalogue(store).table.to_pylist()}


def is_published(store: Store, key: str) -> bool:
    return f"images/{key}" in published(store)


def test_who_decided_what_and_when_is_written_down_and_never_changed(store: Store) -> None:
    fill(store, waits(store, "a"))
    before = datetime.now(UTC)
    decide(store.uri, ["a"], "approve", by="Ann", note="a toy")
    decide(store.uri, ["a"], "approve", by="Bo")  # stands already
    decide(store.uri, ["a"], "reject", by="Cleo")
    history = Decisions(store).on("a" * 64, "a mug")
    assert [(one.by, one.answer, one.of, one.concepts, one.note) for one in history.decisions] == [
        ("Ann", "approve", "picture", ("weapon",), "a toy"),
        ("Cleo", "reject", "picture", (), ""),  # nobody asked: an approval was taken back
    ]
    assert before < history.decisions[0].at < history.decisions[1].at < datetime.now(UTC)
    row = rows(store)["a"]
    assert (row["reviewed_by"], row["reviewed_at"]) == ("Cleo", history.decisions[1].at)


def test_a_decision_counts_for_the_picture_and_the_text_and_not_for_the_id(store: Store) -> None:
    fill(store, waits(store, "a"))
    decide(store.uri, ["a"], "approve", by="Ann")
    decisions = Decisions(store)
    assert decisions.on("a" * 64, "a mug").any
    assert not decisions.on("a" * 64, "a cap").any
    assert not decisions.on("b" * 64, "a mug").any


def test_rows_with_one_picture_share_a_decision(store: Store) -> None:
    shared = "5" * 64
    fill(store, waits(store, "a", key=shared), waits(store, "b", key=shared), waits(store, "c", key=shared, prompt="x"))
    decide(store.uri, ["a"], "approve", by="Ann")
    assert {row_id: row["status"] for row_id, row in rows(store).items()} == {
        "a": "done",
        "b": "done",
        "c": "rejected",
    }
    assert [row.id for row in waiting(store.uri)] == ["c"]
    assert is_published(store, shared)
    decide(store.uri, ["c"], "approve", by="Ann")
    assert {row["uri"] for row in rows(store).values()} == {rows(store)["a"]["uri"]}


def test_two_people_who_decide_at_once_end_with_one_answer(store: Store) -> None:
    names = "abcdef"
    fill(store, *(waits(store, name) for name in names))
    told: dict[str, Any] = {}

    def answer(by: str, what: Any) -> None:
        told[by] = decide(store.uri, list(names), what, by=by)

    threads = [threading.Thread(target=answer, args=one) for one in (("Ann", "approve"), ("Bo", "reject"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(store)
    for name, ann, bo in zip(names, told["Ann"], told["Bo"], strict=True):
        history = Decisions(store).on(name * 64, "a mug")
        rejected = history.rejection("picture") is not None
        assert (found[name]["status"], found[name]["reason"]) == (
            ("rejected", "review_rejected") if rejected else ("done", None)
        )
        assert is_published(store, name * 64) != rejected
        assert Masters(store).find(name * 64) is not None
        assert bo.holds == rejected
        assert ann.holds or "Bo rejected the picture" in ann.sentence


def test_one_who_comes_second_at_the_same_moment_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, waits(store, "a"))
    add = Decisions.add

    def add_second(self: Decisions, decision: Decision, text: str, number: int) -> None:
        monkeypatch.setattr(Decisions, "add", add)
        decide(store.uri, ["a"], "approve", by="Ann")
        add(self, decision, text, number)

    monkeypatch.setattr(Decisions, "add", add_second)
    (told,) = decide(store.uri, ["a"], "reject", by="Bo")
    assert not told.holds
    assert told.sentence.startswith("Ann approved the picture on ")
    assert told.sentence.endswith("at the same moment. Look again.")
    assert rows(store)["a"]["status"] == "done"


def test_a_decision_during_a_run_is_followed_when_the_run_ends(store: Store) -> None:
    fill(store, waits(store, "a"), waits(store, "b"))
    # Lanes looked before anybody had decided, and judged a moment later: that a person must look, and that all is well.
    late = datetime(2100, 1, 1, tzinfo=UTC)
    ended = [waits(store, "a", finished_at=late), done(store, "b", finished_at=late)]
    decide(store.uri, ["a"], "approve", by="Ann")
    decide(store.uri, ["b"], "reject", by="Ann")

    with ThreadPoolExecutor() as pool:
        mine = commit(store, plan(id=["a", "b"]), ended, settle=Reviews(Decisions(store), pool).settle)

    assert {row["id"]: (row["status"], row["reason"]) for row in mine.to_pylist()} == {
        "a": ("done", None),
        "b": ("rejected", "review_rejected"),
    }
    assert (is_published(store, "a" * 64), is_published(store, "b" * 64)) == (True, False)


def test_an_approved_picture_that_repeats_an_earlier_row_s_is_refused_for_that(store: Store, tmp_path: Path) -> None:
    (profile := tmp_path / "unlike.toml").write_text("unlike_others = true")
    unlike = {"profile": str(profile), "run": "one"}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b", "c"], "profile": [str(profile)] * 3}), sink)
    store.put_once("runs/one/plan.parquet", sink.getvalue().to_pybytes())
    fill(
        store,
        waits(store, "a", fingerprint=ALIKE, **unlike),
        done(store, "b", fingerprint=ALIKE_TOO, **unlike),
        waits(store, "c", fingerprint=ALIKE, **unlike),
        done(store, "d", fingerprint=OTHER),
    )
    (told,) = decide(store.uri, ["c"], "approve", by="Ann")
    assert told.sentence.startswith("The picture shows the same as that of the row b")
    assert rows(store)["c"]["reason"] == "duplicate"
    assert not is_published(store, "c" * 64)

    decide(store.uri, ["a"], "approve", by="Ann")  # it comes first: the row of before gives way
    assert {row_id: row["reason"] for row_id, row in rows(store).items()} == {
        "a": None,
        "b": "duplicate",
        "c": "duplicate",
        "d": None,
    }
    assert [is_published(store, name * 64) for name in "abc"] == [True, False, False]

    decide(store.uri, ["a"], "reject", by="Bo")  # and comes back
    assert {row_id: row["reason"] for row_id, row in rows(store).items()} == {
        "a": "review_rejected",
        "b": None,
        "c": "duplicate",
        "d": None,
    }
    assert [is_published(store, name * 64) for name in "abc"] == [False, True, False]

    decide(store.uri, ["c"], "reject", by="Bo")  # so that it isn't published when the other row goes
    assert rows(store)["c"]["reason"] == "review_rejected"
    assert not is_published(store, "c" * 64)


def test_whether_pictures_may_be_alike_must_be_known_before_one_is_published(store: Store) -> None:
    fill(store, waits(store, "a", fingerprint=ALIKE, profile="elsewhere.toml"))
    with pytest.raises(RequestError, match="There is no profile elsewhere"):
        decide(store.uri, ["a"], "approve", by="Ann")
    assert not Decisions(store).on("a" * 64, "a mug").any
    assert decide(store.uri, ["a"], "reject", by="Ann")[0].holds  # which publishes nothing


def test_whatever_a_terminal_hands_over_is_kept_as_a_line_and_nobody_is_nameless(store: Store) -> None:
    fill(store, waits(store, "a"))
    with pytest.raises(RequestError, match="Who decides has no name"):
        decide(store.uri, ["a"], "reject", by=" ")
    (told,) = decide(store.uri, ["a"], "reject", by="Zoë \udcff", note="one\n\ttwo [bold]\ud800")
    assert told.sentence.startswith("Zoë ? rejected the picture on ")
    assert told.sentence.endswith("“one two [bold]?”.")
    assert rows(store)["a"]["reviewed_by"] == "Zoë ?"


def test_a_picture_that_has_gone_is_left_to_the_next_run(store: Store) -> None:
    fill(store, waits(store, "a"))
    master = Masters(store).find("a" * 64)
    assert master is not None
    store.delete(master.main.path)
    (told,) = decide(store.uri, ["a"], "approve", by="Ann")
    assert told.sentence == "Its picture has gone: the next run makes it again."
    assert rows(store)["a"]["status"] == "rejected"
    assert Decisions(store).on("a" * 64, "a mug").any


def test_what_cannot_be_read_of_a_decision_refuses(store: Store) -> None:
    fill(store, waits(store, "a"))
    decide(store.uri, ["a"], "approve", by="Ann")
    store.overwrite(Decisions(store).path("a" * 64, "a mug", 0), b"{")
    history = Decisions(store).on("a" * 64, "a mug")
    assert history.applied("picture", allow())[0].reason == Reason.CLASSIFIER_FAILED
    assert history.applied("input", ask({"weapon": 0.1}, "Look."))[0].reason == Reason.SCREEN_FAILED
    (told,) = decide(store.uri, ["a"], "reject", by="Bo")
    assert not told.holds
    assert "can't be read" in told.sentence
    assert rows(store)["a"]["reason"] == "classifier_failed"


def test_a_store_without_a_catalogue_has_nothing_to_review(store: Store) -> None:
    for ask_for in (lambda: waiting(store.uri), lambda: decide(store.uri, ["a"], "approve", by="Ann")):
        with pytest.raises(RequestError, match="There is no catalogue in"):
            ask_for()


def decided(answer: Any, *concepts: str, of: Any = "picture") -> Decision:
    return Decision(answer, of, concepts, "Ann", datetime(2026, 1, 1, tzinfo=UTC), "", "a", "key")


def test_a_ruling_answers_what_was_asked_and_nothing_else() -> None:
    look = ask({"weapon": 0.1, "drugs": 0.2}, "Look.", {"weapon": 0.5})
    block = refuse(Reason.CONCEPT, "No.")
    weapon, drugs = decided("approve", "weapon"), decided("approve", "drugs")
    assert DecisionHistory((weapon,)).applied("picture", look) == (look, None)
    verdict, decision = DecisionHistory((weapon, drugs)).applied("picture", look)
    assert (verdict.allowed, verdict.scores, decision) == (True, {"weapon": 0.5}, drugs)
    assert DecisionHistory((weapon, drugs)).applied("input", look) == (look, None)
    assert DecisionHistory((weapon, drugs)).applied("picture", block) == (block, None)
    assert DecisionHistory().applied("picture", allow()) == (allow(), None)
    no = decided("reject")
    for decisions in ((no, weapon, drugs), (weapon, drugs, no)):
        for said in (look, allow()):
            verdict, decision = DecisionHistory(decisions).applied("picture", said)
            assert (verdict.reason, decision) == (Reason.REVIEW_REJECTED, no)
        assert DecisionHistory(decisions).applied("picture", block) == (block, None)

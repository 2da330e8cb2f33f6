"""Answers to what waits: who and when, which rows share one, and what stands in the way of one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safety.verdict import Reason, allow, ask, refuse
from tasks.catalogue import merge, read_catalogue
from tasks.decide import decide, waiting
from tasks.decision import Decision, Decisions, Ruling
from tasks.encoding import Encoding
from tasks.outcome import Outcome, Status, outcome_table
from tasks.places import clear
from tasks.request import RequestError
from tasks.reviews import Reviews
from tasks.shelf import QUARANTINE, PictureShelf
from tasks.store import Store, open_store

from .test_catalogue import outcome, plan
from .test_duplicates import ALIKE, ALIKE_TOO, OTHER

ASKS = {"status": Status.REJECTED, "reason": Reason.REVIEW, "message": "A person must look.", "asks": {"weapon": 0.1}}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_store_uri"))


@pytest.fixture
def shelf(store: Store) -> PictureShelf:
    return PictureShelf(store, Encoding("png", 92))


def waits(shelf: PictureShelf, row_id: str, **values: Any) -> Outcome:
    key = values.pop("key", row_id * 64)
    return outcome(row_id, **{"key": key, **ASKS, **shelf.put(QUARANTINE, key, f"picture {key}".encode()), **values})


def done(shelf: PictureShelf, row_id: str, **values: Any) -> Outcome:
    key = values.pop("key", row_id * 64)
    return outcome(row_id, **{"key": key, **shelf.put("images", key, f"picture {key}".encode()), **values})


def fill(store: Store, *outcomes: Outcome) -> None:
    merge(store, plan(id=[one.id for one in outcomes]), outcome_table([*outcomes]))


def rows(store: Store) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_catalogue(store).table.to_pylist()}


def lies(shelf: PictureShelf, key: str) -> list[str]:
    return [place for place in ("images", QUARANTINE) if shelf.store.exists(shelf.path(place, key))]


def test_who_decided_what_and_when_is_written_down_and_never_changed(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a"))
    before = datetime.now(UTC)
    decide(store.uri, ["a"], "approve", by="Ann", note="a toy")
    decide(store.uri, ["a"], "approve", by="Bo")  # stands already
    decide(store.uri, ["a"], "reject", by="Cleo")
    ruling = Decisions(store).on("a" * 64, "a mug")
    assert [(one.by, one.answer, one.of, one.concepts, one.note) for one in ruling.decisions] == [
        ("Ann", "approve", "picture", ("weapon",), "a toy"),
        ("Cleo", "reject", "picture", (), ""),  # nobody asked: an approval was taken back
    ]
    assert before < ruling.decisions[0].at < ruling.decisions[1].at < datetime.now(UTC)
    row = rows(store)["a"]
    assert (row["reviewed_by"], row["reviewed_at"]) == ("Cleo", ruling.decisions[1].at)


def test_a_decision_counts_for_the_picture_and_the_text_and_not_for_the_id(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a"))
    decide(store.uri, ["a"], "approve", by="Ann")
    decisions = Decisions(store)
    assert decisions.on("a" * 64, "a mug").any
    assert not decisions.on("a" * 64, "a cap").any
    assert not decisions.on("b" * 64, "a mug").any


def test_rows_with_one_picture_share_a_decision(store: Store, shelf: PictureShelf) -> None:
    shared = "5" * 64
    fill(store, waits(shelf, "a", key=shared), waits(shelf, "b", key=shared), waits(shelf, "c", key=shared, prompt="x"))
    decide(store.uri, ["a"], "approve", by="Ann")
    assert {row_id: row["status"] for row_id, row in rows(store).items()} == {
        "a": "done",
        "b": "done",
        "c": "rejected",
    }
    assert [row.id for row in waiting(store.uri)] == ["c"]
    assert lies(shelf, shared) == ["images", QUARANTINE]
    decide(store.uri, ["c"], "approve", by="Ann")
    assert lies(shelf, shared) == ["images"]


def test_two_people_who_decide_at_once_end_with_one_answer(store: Store, shelf: PictureShelf) -> None:
    names = "abcdef"
    fill(store, *(waits(shelf, name) for name in names))
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
        ruling = Decisions(store).on(name * 64, "a mug")
        rejected = ruling.rejection("picture") is not None
        assert (found[name]["status"], found[name]["reason"]) == (
            ("rejected", "review_rejected") if rejected else ("done", None)
        )
        assert lies(shelf, name * 64) == [QUARANTINE if rejected else "images"]
        assert bo.holds == rejected
        assert ann.holds or "Bo rejected the picture" in ann.sentence


def test_one_who_comes_second_at_the_same_moment_is_told_so(
    store: Store, shelf: PictureShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, waits(shelf, "a"))
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


def test_a_decision_during_a_run_is_followed_when_the_run_ends(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a"), waits(shelf, "b"))
    # Lanes looked before anybody had decided, and judged a moment later: that a person must look, and that all is well.
    late = datetime(2100, 1, 1, tzinfo=UTC)
    ended = [waits(shelf, "a", finished_at=late), done(shelf, "b", finished_at=late)]
    decide(store.uri, ["a"], "approve", by="Ann")
    decide(store.uri, ["b"], "reject", by="Ann")

    reviews = Reviews(store, lambda _: shelf)
    mine = merge(store, plan(id=["a", "b"]), outcome_table(ended), settle=reviews.settle)
    clear(reviews.keys, read_catalogue(store).table, shelf)

    assert {row["id"]: (row["status"], row["reason"]) for row in mine.to_pylist()} == {
        "a": ("done", None),
        "b": ("rejected", "review_rejected"),
    }
    assert (lies(shelf, "a" * 64), lies(shelf, "b" * 64)) == (["images"], [QUARANTINE])


def test_an_approved_picture_that_repeats_an_earlier_row_s_is_refused_for_that(
    store: Store, shelf: PictureShelf, tmp_path: Path
) -> None:
    (profile := tmp_path / "unlike.toml").write_text("unlike_others = true")
    unlike = {"profile": str(profile), "run": "one"}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b", "c"], "profile": [str(profile)] * 3}), sink)
    store.put_once("runs/one/plan.parquet", sink.getvalue().to_pybytes())
    fill(
        store,
        waits(shelf, "a", fingerprint=ALIKE, **unlike),
        done(shelf, "b", fingerprint=ALIKE_TOO, **unlike),
        waits(shelf, "c", fingerprint=ALIKE, **unlike),
        done(shelf, "d", fingerprint=OTHER),
    )
    (told,) = decide(store.uri, ["c"], "approve", by="Ann")
    assert told.sentence.startswith("The picture shows the same as that of the row b")
    assert rows(store)["c"]["reason"] == "duplicate"
    assert lies(shelf, "c" * 64) == [QUARANTINE]

    decide(store.uri, ["a"], "approve", by="Ann")  # it comes first: the row of before gives way
    assert {row_id: row["reason"] for row_id, row in rows(store).items()} == {
        "a": None,
        "b": "duplicate",
        "c": "duplicate",
        "d": None,
    }
    assert [lies(shelf, name * 64) for name in "abc"] == [["images"], [QUARANTINE], [QUARANTINE]]

    decide(store.uri, ["a"], "reject", by="Bo")  # and comes back
    assert {row_id: row["reason"] for row_id, row in rows(store).items()} == {
        "a": "review_rejected",
        "b": None,
        "c": "duplicate",
        "d": None,
    }
    assert [lies(shelf, name * 64) for name in "abc"] == [[QUARANTINE], ["images"], [QUARANTINE]]

    decide(store.uri, ["c"], "reject", by="Bo")  # so that it isn't published when the other row goes
    assert rows(store)["c"]["reason"] == "review_rejected"
    assert lies(shelf, "c" * 64) == [QUARANTINE]


def test_whether_pictures_may_be_alike_must_be_known_before_one_is_published(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a", fingerprint=ALIKE, profile="elsewhere.toml"))
    with pytest.raises(RequestError, match="There is no profile elsewhere"):
        decide(store.uri, ["a"], "approve", by="Ann")
    assert not Decisions(store).on("a" * 64, "a mug").any
    assert decide(store.uri, ["a"], "reject", by="Ann")[0].holds  # which publishes nothing


def test_whatever_a_terminal_hands_over_is_kept_as_a_line_and_nobody_is_nameless(
    store: Store, shelf: PictureShelf
) -> None:
    fill(store, waits(shelf, "a"))
    with pytest.raises(RequestError, match="Who decides has no name"):
        decide(store.uri, ["a"], "reject", by=" ")
    (told,) = decide(store.uri, ["a"], "reject", by="Zoë \udcff", note="one\n\ttwo [bold]\ud800")
    assert told.sentence.startswith("Zoë ? rejected the picture on ")
    assert told.sentence.endswith("“one two [bold]?”.")
    assert rows(store)["a"]["reviewed_by"] == "Zoë ?"


def test_a_picture_that_has_gone_is_left_to_the_next_run(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a"))
    shelf.remove(QUARANTINE, "a" * 64)
    (told,) = decide(store.uri, ["a"], "approve", by="Ann")
    assert told.sentence == "Its picture has gone: the next run makes it again."
    assert rows(store)["a"]["status"] == "rejected"
    assert Decisions(store).on("a" * 64, "a mug").any


def test_what_cannot_be_read_of_a_decision_refuses(store: Store, shelf: PictureShelf) -> None:
    fill(store, waits(shelf, "a"))
    decide(store.uri, ["a"], "approve", by="Ann")
    store.overwrite(Decisions(store).path("a" * 64, "a mug", 0), b"{")
    ruling = Decisions(store).on("a" * 64, "a mug")
    assert ruling.applied("picture", allow())[0].reason == Reason.CLASSIFIER_FAILED
    assert ruling.applied("input", ask({"weapon": 0.1}, "Look."))[0].reason == Reason.SCREEN_FAILED
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
    assert Ruling((weapon,)).applied("picture", look) == (look, None)
    verdict, decision = Ruling((weapon, drugs)).applied("picture", look)
    assert (verdict.allowed, verdict.scores, decision) == (True, {"weapon": 0.5}, drugs)
    assert Ruling((weapon, drugs)).applied("input", look) == (look, None)
    assert Ruling((weapon, drugs)).applied("picture", block) == (block, None)
    assert Ruling().applied("picture", allow()) == (allow(), None)
    no = decided("reject")
    for decisions in ((no, weapon, drugs), (weapon, drugs, no)):
        for said in (look, allow()):
            verdict, decision = Ruling(decisions).applied("picture", said)
            assert (verdict.reason, decision) == (Reason.REVIEW_REJECTED, no)
        assert Ruling(decisions).applied("picture", block) == (block, None)

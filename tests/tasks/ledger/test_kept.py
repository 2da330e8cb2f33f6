"""A look at a row that fails changes nothing that is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from safety.verdict import Reason
from tasks.catalogue.catalogue import read_catalogue
from tasks.ledger.kept import kept, still_to_judge
from tasks.outcome import SCHEMA, Outcome, Status, outcome_table
from tasks.stores.opening import open_store
from tests.tasks.catalogue.test_catalogue import done, outcome, plan
from tests.tasks.catalogues import commit

BROKEN = {
    "status": Status.REJECTED,
    "reason": Reason.CLASSIFIER_FAILED,
    "message": "The picture could not be classified: RuntimeError.",
    "retryable": True,
    "policy_fingerprint": "new judges",
    "keeps": True,
    "minutes": 1,
}


def after(before: list[Outcome], *outcomes: Outcome) -> dict[str, dict[str, Any]]:
    found = kept(outcome_table(before).select(SCHEMA.names), outcome_table([*outcomes]))
    assert found.schema == SCHEMA
    rows = {row["id"]: row for row in found.to_pylist()}
    assert len(rows) == found.num_rows == len(outcomes)
    return rows


def plain(one: Outcome) -> dict[str, Any]:
    (row,) = outcome_table([one]).select(SCHEMA.names).to_pylist()
    return dict(row)


DECIDED = {
    "done": {"uri": "images/a.png"},
    "rejected": {"status": Status.REJECTED, "reason": Reason.BLANK, "message": "It is blank."},
    "blocked": {"status": Status.BLOCKED, "reason": Reason.CONCEPT, "message": "No weapons."},
    "waits": {"status": Status.REJECTED, "reason": Reason.REVIEW, "message": "Look.", "asks": {"weapon": 0.1}},
}


@pytest.mark.parametrize("values", DECIDED.values(), ids=DECIDED)
def test_what_was_decided_of_the_same_key_stands_and_may_be_tried_again(values: dict[str, Any]) -> None:
    before = outcome("a", **values)
    assert after([before], outcome("a", **BROKEN))["a"] == {**plain(before), "retryable": True}


UNKNOWN = {
    "no outcome": [],
    "another row's": [outcome("b", key="key of a")],
    "of another key": [outcome("a", key="another")],
    "failed": [outcome("a", status=Status.FAILED, reason="internal", message="It failed.")],
    "refused by a broken check": [outcome("a", **{**BROKEN, "minutes": 0})],
}


@pytest.mark.parametrize("before", UNKNOWN.values(), ids=UNKNOWN)
def test_where_nothing_is_known_the_refusal_counts(before: list[Outcome]) -> None:
    broken = outcome("a", **BROKEN)
    assert after(before, broken)["a"] == plain(broken)


def test_what_could_be_looked_at_counts_whatever_was_before() -> None:
    refused = outcome("a", 1, status=Status.REJECTED, reason=Reason.BLANK, message="It is blank.")
    mixed = after([outcome("a"), outcome("b")], refused, outcome("b", **BROKEN), outcome("c"))
    assert mixed == {
        "a": plain(refused),
        "b": {**plain(outcome("b")), "retryable": True},
        "c": plain(outcome("c")),
    }


def test_nothing_of_nothing_is_nothing() -> None:
    assert after([]) == {}
    assert after([outcome("a")]) == {}


def test_the_catalogue_keeps_the_row_and_tells_which_ones_are_still_to_be_judged(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    commit(store, plan(id=["a", "b"]), [done(store, "a"), done(store, "b")])
    before = read_catalogue(store).table

    commit(store, plan(id=["a", "c"]), [outcome("a", **BROKEN), outcome("c", **BROKEN)])

    table = read_catalogue(store).table
    rows = {row["id"]: row for row in table.to_pylist()}
    versions = {name: rows["a"][name] for name in ("planned_from", "changed_in")}
    assert rows["a"] == {**before.to_pylist()[0], "retryable": True, **versions}
    assert (rows["c"]["status"], rows["c"]["reason"]) == ("rejected", "classifier_failed")
    assert table.filter(still_to_judge(table)).column("id").to_pylist() == ["a"]
    (known,) = read_catalogue(store).known(["a"])
    assert known is not None
    assert known.still_to_judge


def test_a_table_without_rows_has_none_to_judge() -> None:
    assert pa.compute.any(still_to_judge(SCHEMA.empty_table())).as_py() in (None, False)

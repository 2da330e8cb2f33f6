"""Kill an answer after any of its writes: the same command ends right, and nothing is lost on the way."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safety.verdict import Reason
from tasks.catalogue.catalogue import read_catalogue
from tasks.kinds.decompose.decompose_kind import DECOMPOSE
from tasks.ledger.decision import Answer
from tasks.maintenance.prune import leftovers
from tasks.maintenance.prune import published as list_published
from tasks.outcome import Outcome, Status
from tasks.results.layer_shelf import LayeredPicture, LayerShelf
from tasks.results.marking import Marking
from tasks.review.decide import decide, waiting
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreError
from tests.tasks.catalogue.test_catalogue import outcome, plan
from tests.tasks.catalogues import commit, kept, published

from .stopped_store import killed_after

ASKS = {"status": Status.REJECTED, "reason": Reason.REVIEW, "message": "A person must look.", "asks": {"weapon": 0.1}}
IDS = ["a", "b"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def fill(store: Store, outcomes: list[Outcome]) -> None:
    commit(store, plan(id=[one.id for one in outcomes]), outcomes)


def pictures(store: Store) -> None:
    """Rows whose pictures wait, and one that is done."""
    waiting = [outcome(name, key=name * 64, **ASKS, **kept(store, name * 64)) for name in IDS]
    fill(store, [*waiting, outcome("c", key="c" * 64, **kept(store, "c" * 64))])


def layers(store: Store) -> None:
    """Rows whose layers wait."""
    shelf = LayerShelf(store, with_psd=True, flatten=False, marker=Marking().open(DECOMPOSE.source_type))
    made = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 4), np.uint8)
    masters = {name: shelf.keep(name * 64, LayeredPicture(made[0], made, f"a mug {name}"))[0] for name in IDS}
    fill(
        store,
        [
            outcome(name, key=name * 64, prompt="", caption="a mug", **ASKS, **shelf.said(master))
            for name, master in masters.items()
        ],
    )


def masters(store: Store) -> dict[str, str]:
    """What was made, by where it lies."""
    root = Path(store.uri)
    files = (file for file in (root / "masters").rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def rows(store: Store) -> list[dict[str, Any]]:
    """The catalogue without its times, its versions, and the names that are used once."""
    passing = ["finished_at", "reviewed_at", "message", "uri", "layer_uris", "planned_from", "changed_in"]
    table = read_catalogue(store).table.drop_columns(passing)
    return sorted(table.to_pylist(), key=lambda row: str(row["id"]))


def check_that_nothing_is_lost(store: Store) -> None:
    """Whatever the catalogue names is there, whole."""
    for row in read_catalogue(store).table.to_pylist():
        for uri in [row["uri"], *(row["layer_uris"] or [])]:
            assert uri is None or Path(uri).is_file(), (row["id"], uri)
        if row["uri"]:
            assert hashlib.sha256(Path(row["uri"]).read_bytes()).hexdigest() == row["sha256"]


@pytest.mark.parametrize("fill_store", [pictures, layers], ids=["pictures", "layers"])
@pytest.mark.parametrize("answers", [("approve",), ("reject",), ("approve", "reject")], ids=" then ".join)
def test_an_answer_that_is_killed_after_any_write_is_ended_by_the_same_command(
    store: Store, tmp_path: Path, fill_store: Callable[[Store], None], answers: tuple[Answer, ...]
) -> None:
    fill_store(store)
    *first, last = answers
    for answer in first:
        decide(store.uri, IDS, answer, by="Ann")
    template = tmp_path / "template"
    shutil.copytree(store.uri, template)
    before = masters(store)
    decide(store.uri, IDS, last, by="Bo")
    expected, wanted = rows(store), published(store)
    assert masters(store) == before
    assert {row["status"] for row in expected if row["id"] in IDS} == {"done" if last == "approve" else "rejected"}

    for most in itertools.count():
        shutil.rmtree(store.uri)
        shutil.copytree(template, store.uri)
        with killed_after(most) as writes:
            try:
                decide(store.uri, IDS, last, by="Bo")
            except StoreError:
                assert writes.stopped
        check_that_nothing_is_lost(store)
        assert masters(store) == before

        told = decide(store.uri, IDS, last, by="Cleo")

        assert all(one.holds for one in told)
        assert published(store) == wanted, most
        assert leftovers(store, list_published(store)) == []
        assert not read_catalogue(store).state.editors
        assert not read_catalogue(store).state.owed
        found = rows(store)
        by = {row["id"]: row.pop("reviewed_by") for row in found}
        assert found == [{name: row[name] for name in row if name != "reviewed_by"} for row in expected]
        assert all(by[name] in ("Bo", "Cleo") for name in IDS)  # whoever's was written down first
        if not writes.stopped:
            break
    assert most > 4
    assert waiting(store.uri) == []

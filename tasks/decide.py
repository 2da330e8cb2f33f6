"""Decide: what waits for review in a store, and a person's answer to it.

An answer is written down first, as a decision that every later run follows. Then pictures are copied to where it wants
them, then the catalogue says so, then they are taken from where they were. Stopped anywhere in between, the same
command goes on from there; and so does the next run of the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.profile import Profile, ProfileError
from safety.verdict import Reason
from tasks.catalogue import Catalogue, read_catalogue, rewrite
from tasks.decision import DONE, Answer, Decision, Decisions, Of, Ruling, readable, text_of
from tasks.duplicates import Duplicates
from tasks.encoding import Encoding
from tasks.layer_shelf import SOURCE_TYPE, LayerShelf
from tasks.marking import Marking
from tasks.outcome import Status
from tasks.places import clear
from tasks.request import RequestError
from tasks.reviews import Reviews
from tasks.run import Run
from tasks.shelf import PictureShelf, Shelf
from tasks.store import Conflict, Store, open_store


@dataclass(frozen=True)
class Waiting:
    """A row that waits for a person."""

    id: str
    of: Of
    concepts: dict[str, float]  # that ask, and how far each is over its limit, the furthest first
    message: str
    text: str  # its prompt, or the caption of its source picture
    uri: str | None  # its picture, or the composite of its layers
    layer_uris: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """What became of a row that a person answered for."""

    id: str
    sentence: str
    holds: bool  # the answer counts; False where somebody else's does


def waiting(address: str) -> list[Waiting]:
    """The rows of a store that wait for a person, in the catalogue's order.

    Raises:
        RequestError: if there is no catalogue.
        StoreError: if the store is out of reach.
    """
    store = open_store(address)
    return _waiting(_catalogue(store).table)


def _waiting(table: pa.Table) -> list[Waiting]:
    rows = table.filter(pc.equal(table.column("reason"), Reason.REVIEW)).to_pylist()
    return [
        Waiting(
            row["id"],
            _of(row),
            dict(sorted(row["asks"], key=lambda one: -one[1])),
            row["message"],
            text_of(row),
            row["uri"],
            tuple(row["layer_uris"] or ()),
        )
        for row in rows
    ]


def decide(address: str, ids: Sequence[str], answer: Answer, *, by: str, note: str = "") -> list[Answered]:
    """Answer for rows that wait, or take back approvals; returns what became of each, in the order of `ids`.

    Rows with the same picture share a decision. A decision that stands already is kept.

    Raises:
        RequestError: if there is no catalogue, a row isn't there, or doesn't wait, or `by` is empty; nothing is
            decided then.
        StoreError: if the store is out of reach.
    """
    store, by, note = open_store(address), readable(by), readable(note)
    if not by:
        raise RequestError("Who decides has no name: give one with --by.")
    table, decisions = _catalogue(store).table, Decisions(store)
    rows = [_row(table, row_id, store) for row_id in dict.fromkeys(ids)]
    for row in rows:
        _check(row, answer, decisions.on(row["key"], text_of(row)))
    try:
        neighbourhood = _neighbourhood(store, table, rows)
    except RequestError:
        if answer == "approve":
            raise
        neighbourhood = _Neighbourhood([])  # a picture may go without it; what it hid comes back with the next run
    problems = {row["id"]: _record(row, answer, decisions, by, note) for row in rows}

    shelves = {row["key"]: _shelf_of(store, row) for row in rows if row["uri"]}
    reviews = Reviews(store, lambda row: _shelf_of(store, row))

    def change(table: pa.Table) -> pa.Table:
        keys = pa.array([row["key"] for row in rows], pa.string())
        followed = reviews.follow(table, pc.is_in(table.column("key"), value_set=keys))
        return neighbourhood.settled(followed)

    after = rewrite(store, change)
    _clear({*reviews.keys, *shelves, *neighbourhood.keys}, after, shelves)
    return [_answered(_row(after, row["id"], store), problems[row["id"]], by) for row in rows]


def _catalogue(store: Store) -> Catalogue:
    catalogue = read_catalogue(store)
    if catalogue.version is None:
        raise RequestError(f"There is no catalogue in {store.uri}.")
    return catalogue


def _row(table: pa.Table, row_id: str, store: Store) -> dict[str, Any]:
    found = table.filter(pc.equal(table.column("id"), row_id)).to_pylist()
    if not found:
        raise RequestError(f"There is no row {row_id!r} in the catalogue of {store.uri}.")
    return dict(found[0])


def _of(row: dict[str, Any]) -> Of:
    return "input" if row["status"] == Status.BLOCKED else "picture"


def _check(row: dict[str, Any], answer: Answer, ruling: Ruling) -> None:
    """Refuse an answer that nobody asked for. Where one was given before, more is said when it is written down."""
    if row["reason"] == Reason.REVIEW or ruling.any:
        return
    reason = f" ({row['reason']})" if row["reason"] else ""
    raise RequestError(
        f"The row {row['id']} doesn't wait for review: it is {row['status']}{reason}. Nothing was {DONE[answer]}."
    )


def _record(row: dict[str, Any], answer: Answer, decisions: Decisions, by: str, note: str) -> str | None:
    """Write an answer down, unless it stands already; what is in its way, in a sentence."""
    of, text, asks = _of(row), text_of(row), tuple(name for name, _ in row["asks"] or ())
    ruling = decisions.on(row["key"], text)
    for _ in range(2):
        if ruling.unreadable:
            return f"What was decided before can't be read: {ruling.unreadable}."
        if answer == "reject" and ruling.rejection(of):
            return None
        if answer == "approve" and (no := ruling.rejection(of)):
            return f"{no.sentence}. That is final: for another picture, change the row or retry it."
        if answer == "approve" and ruling.approval(of, asks):
            return None
        if row["reason"] != Reason.REVIEW and not ruling.approval(of, ()):
            return f"It doesn't wait for review any more: it is {row['status']}."
        decision = Decision(answer, of, asks, by, datetime.now(UTC), note, row["id"], row["key"])
        try:
            decisions.add(decision, text, len(ruling.decisions))
        except Conflict:
            theirs = decisions.on(row["key"], text)
            if theirs.decisions and theirs.decisions[-1].answer != answer:
                return f"{theirs.decisions[-1].sentence}, at the same moment. Look again."
            ruling = theirs
            continue
        return None
    return "Others decide on it at this moment. Look again."


def _shelf_of(store: Store, row: dict[str, Any]) -> Shelf[Any]:
    """Where a row's results lie."""
    if row["layer_uris"]:
        return LayerShelf(store, with_psd=False, flatten=False, marker=Marking().open(SOURCE_TYPE))
    return PictureShelf(store, Encoding(row["format"], 100))


def _clear(keys: Iterable[str], table: pa.Table, shelves: dict[str, Shelf[Any]]) -> None:
    some = next(iter(shelves.values()), None)
    for key in keys:
        if (shelf := shelves.get(key, some)) is not None:
            clear([key], table, shelf)


def _answered(row: dict[str, Any], problem: str | None, by: str) -> Answered:
    if problem is not None:
        return Answered(row["id"], problem, False)
    match row["status"], row["reason"]:
        case Status.DONE, _:
            whose = f" {row['reviewed_by']} had approved it before." if row["reviewed_by"] not in (None, by) else ""
            sentence = f"Published as {row['uri']}.{whose}"
        case _, Reason.REVIEW:
            sentence = "Its picture has gone: the next run makes it again."
        case _:
            sentence = row["message"]
    return Answered(row["id"], sentence, True)


class _Neighbourhood:
    """Rows of the same manifests, whose profiles may allow no picture twice: see `tasks.duplicates`."""

    def __init__(self, groups: list[tuple[pa.Array, Duplicates]]) -> None:
        self.groups = groups

    @property
    def keys(self) -> set[str]:
        """Of rows that are duplicates, or were."""
        return {key for _, duplicates in self.groups for key in duplicates.keys}

    def settled(self, table: pa.Table) -> pa.Table:
        """The catalogue with duplicates settled; its rows stand in the order of their manifests."""
        for ids, duplicates in self.groups:
            places = pc.indices_nonzero(pc.is_in(table.column("id"), value_set=ids))
            mine = table.take(places)
            settled = duplicates.settle(mine)
            if settled is not mine:
                order = np.arange(table.num_rows)
                order[places.to_numpy()] = table.num_rows + np.arange(len(places))
                table = pa.concat_tables([table, settled]).take(pa.array(order))
        return table


def _neighbourhood(store: Store, table: pa.Table, rows: list[dict[str, Any]]) -> _Neighbourhood:
    """Those of the runs that these rows came from.

    Raises:
        RequestError: if a profile that a row names can't be read here.
    """
    groups = []
    pictures = [row for row in rows if row["fingerprint"]]
    for run in dict.fromkeys(row["run"] for row in pictures):
        found = store.read(Run(run).path("plan.parquet"))
        if found is not None:
            plan = pq.read_table(pa.BufferReader(found[0]), columns=["id", "profile"])
        else:  # tidied away: what the catalogue says of that run is the next best
            plan = table.filter(pc.equal(table.column("run"), run))
        profiles = {name: _profile(name) for name in pc.unique(plan.column("profile")).drop_null().to_pylist() if name}
        shelf = _shelf_of(store, next(row for row in pictures if row["run"] == run))
        groups.append((plan.column("id").combine_chunks(), Duplicates(profiles, shelf)))
    return _Neighbourhood(groups)


def _profile(name: str) -> Profile:
    try:
        return Profile.load(name)
    except ProfileError as error:
        raise RequestError(f"Whether a picture may be like another one can't be told. {error}") from error

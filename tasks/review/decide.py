"""Decide: what waits for review in a store, and a person's answer to it.

An answer is written down first, as a decision that every later run follows. Then the catalogue is edited: see
`tasks.catalogue.catalogue_edit`. Stopped anywhere in between, the same command goes on from there; and so does the next
run of the job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.pictures.profile import Profile, ProfileError
from safety.verdict import Reason
from tasks.catalogue.catalogue import Catalogue, outcomes_in, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit, tidy
from tasks.catalogue.duplicates import settle_duplicates
from tasks.errors import RequestError
from tasks.ledger.decision import DONE, HELD, Answer, Decision, DecisionHistory, Decisions, Of, readable, text_of
from tasks.ledger.plan import UNLIKE_OTHERS
from tasks.ledger.run import Run
from tasks.outcome import Status
from tasks.processes.process import Process, this_process
from tasks.review.reviews import Reviews
from tasks.stores.opening import open_store
from tasks.stores.store import Conflict, Store
from tasks.stores.stored_table import naming


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
    source_uris: tuple[str, ...]  # of an edit: what its picture is to be compared with


@dataclass(frozen=True)
class Answered:
    """What became of a row that a person answered for."""

    id: str
    sentence: str
    holds: bool  # the answer counts; False where somebody else's does


def waiting(address: str) -> list[Waiting]:
    """Return the rows of a store that wait for a person, in the catalogue's order.

    Raises:
        RequestError: if there is no catalogue.
        StoreError: if the store is out of reach.
    """
    store = open_store(address)
    return _waiting(_catalogue(store).table)


def _waiting(table: pa.Table) -> list[Waiting]:
    rows = outcomes_in(table.filter(pc.equal(table.column("reason"), Reason.REVIEW)))
    return [
        Waiting(
            row["id"],
            _of(row),
            dict(sorted(row["asks"], key=lambda one: -one[1])),
            row["message"],
            text_of(row),
            row["uri"],
            tuple(row["layer_uris"] or ()),
            tuple(row["source_uris"] or ()),
        )
        for row in rows
    ]


def decide(address: str, ids: Sequence[str], answer: Answer, *, by: str, note: str = "") -> list[Answered]:
    """Answer for rows that wait, or take back approvals; return what became of each, in the order of `ids`.

    Rows with the same picture share a decision. A decision that stands already is kept.

    Raises:
        RequestError: if there is no catalogue, a row isn't there, or doesn't wait, or `by` is empty; nothing is
            decided then.
        StoreError: if the store is out of reach.
    """
    return answer_for(_probed(address), ids, answer, by=by, note=note, asked=True)


def take_down(address: str, ids: Sequence[str], *, until_approved: bool, by: str, note: str = "") -> list[Answered]:
    """Withdraw what is published of rows, at once and for good, or until somebody approves it.

    Raises:
        RequestError: if there is no catalogue, a row isn't there or nothing was ever made of it, or `by` is empty;
            nothing is withdrawn then.
        StoreError: if the store is out of reach.
    """
    return answer_for(_probed(address), ids, "hold" if until_approved else "reject", by=by, note=note, asked=False)


def _probed(address: str) -> Store:
    """Return a store that keeps its promises: an answer that is written down is one that the catalogue can follow."""
    store = open_store(address)
    store.probe()
    return store


def answer_for(
    store: Store,
    ids: Sequence[str],
    answer: Answer,
    *,
    by: str,
    note: str,
    asked: bool,
    process: Process | None = None,
) -> list[Answered]:
    """Answer for rows; `asked` says that only an answer counts that somebody waits for. Else it is about pictures."""
    by, note, process = readable(by), readable(note), process or this_process()
    if not by:
        raise RequestError("Who decides has no name: give one with --by.")
    catalogue, decisions = _catalogue(store), Decisions(store)
    tidy(store, catalogue, process)
    table = catalogue.table
    rows = [_row(table, row_id, store) for row_id in dict.fromkeys(ids)]
    for row in rows:
        if asked:
            _check(row, answer, decisions.on(row["key"], text_of(row)))
        elif not row["key"]:
            raise RequestError(f"Nothing was ever made of the row {row['id']}: it is {row['status']}.")
    groups = _neighbours(store, table, rows, refuse=answer == "approve")
    problems = {row["id"]: _record(row, answer, decisions, by, note, asked=asked) for row in rows}
    keys = pa.array([row["key"] for row in rows], pa.string())
    doing = "review" if asked else "takedown"
    with process.threads() as pool, CatalogueEdit(store, doing, process) as edit:
        for before in edit.tries():
            answered = pc.is_in(before.table.column("key"), value_set=keys)
            followed = Reviews(decisions, pool).follow(before.table, answered)
            edit.commit(before, followed if followed is before.table else _settled(followed, groups))
    return [_answered(_row(edit.after.table, row["id"], store), problems[row["id"]], by) for row in rows]


def _catalogue(store: Store) -> Catalogue:
    catalogue = read_catalogue(store)
    if catalogue.token is None:
        raise RequestError(f"There is no catalogue in {store.uri}.")
    return catalogue


def _row(table: pa.Table, row_id: str, store: Store) -> dict[str, Any]:
    found = outcomes_in(table.filter(pc.equal(table.column("id"), row_id)))
    if not found:
        raise RequestError(f"There is no row {row_id!r} in the catalogue of {store.uri}.")
    return dict(found[0])


def _of(row: dict[str, Any]) -> Of:
    return "input" if row["status"] == Status.BLOCKED else "picture"


def _check(row: dict[str, Any], answer: Answer, history: DecisionHistory) -> None:
    """Refuse an answer that nobody asked for. Where one was given before, more is said when it is written down."""
    if row["reason"] == Reason.REVIEW or history.any:
        return
    reason = f" ({row['reason']})" if row["reason"] else ""
    raise RequestError(
        f"The row {row['id']} doesn't wait for review: it is {row['status']}{reason}. Nothing was {DONE[answer]}."
    )


def _record(
    row: dict[str, Any], answer: Answer, decisions: Decisions, by: str, note: str, *, asked: bool
) -> str | None:
    """Write an answer down, unless it stands already; return what is in its way, in a sentence."""
    of: Of = _of(row) if asked else "picture"
    text, asks = text_of(row), tuple(name for name, _ in row["asks"] or ())
    history = decisions.on(row["key"], text)
    for _ in range(2):
        if history.unreadable:
            return f"What was decided before can't be read: {history.unreadable}."
        no = history.rejection(of)
        if answer == "approve" and no:
            return f"{no.sentence}. That is final: for another picture, change the row or retry it."
        if no or _stands(answer, of, asks, history):
            return None
        if asked and row["reason"] != Reason.REVIEW and not history.approval(of, ()):
            return f"It doesn't wait for review any more: it is {row['status']}."
        decision = Decision(answer, of, asks, by, datetime.now(UTC), note, row["id"], row["key"])
        try:
            decisions.add(decision, text, len(history.decisions))
        except Conflict:
            theirs = decisions.on(row["key"], text)
            if theirs.decisions and theirs.decisions[-1].answer != answer:
                return f"{theirs.decisions[-1].sentence}, at the same moment. Look again."
            history = theirs
            continue
        return None
    return "Others decide on it at this moment. Look again."


def _stands(answer: Answer, of: Of, asks: Sequence[str], history: DecisionHistory) -> bool:
    """Say whether this answer was given before, and counts still."""
    held = history.hold(of) is not None
    return (answer == "approve" and not held and history.approval(of, asks) is not None) or (answer == "hold" and held)


def _answered(row: dict[str, Any], problem: str | None, by: str) -> Answered:
    if problem is not None:
        return Answered(row["id"], problem, False)
    match row["status"], row["reason"]:
        case Status.DONE, _:
            whose = f" {row['reviewed_by']} had approved it before." if row["reviewed_by"] not in (None, by) else ""
            sentence = f"Published as {row['uri']}.{whose}"
        case _, Reason.REVIEW if HELD in dict(row["asks"] or ()):
            sentence = row["message"]
        case _, Reason.REVIEW:
            sentence = "Its picture has gone: the next run makes it again."
        case _:
            sentence = row["message"]
    return Answered(row["id"], sentence, True)


@dataclass(frozen=True)
class _Group:
    """Rows of one manifest, among which some profiles allow no picture like another one's.

    See `tasks.catalogue.duplicates`.
    """

    ids: pa.Array
    unlike_others: list[str]  # these profiles


def _settled(table: pa.Table, groups: Sequence[_Group]) -> pa.Table:
    """Return the catalogue with duplicates settled; its rows stand in the order of their manifests."""
    for group in groups:
        places = pc.indices_nonzero(pc.is_in(table.column("id"), value_set=group.ids))
        mine = table.take(places)
        settled = settle_duplicates(mine, group.unlike_others)
        if settled is not mine:
            order = np.arange(table.num_rows)
            order[places.to_numpy()] = table.num_rows + np.arange(len(places))
            table = pa.concat_tables([table, settled]).take(pa.array(order))
    return table


def _neighbours(store: Store, table: pa.Table, rows: list[dict[str, Any]], *, refuse: bool) -> list[_Group]:
    """Return the rows of the runs that these ones came from, where their duplicates are to be settled.

    Raises:
        RequestError: if a run of an older packshot names a profile that can't be read here, and `refuse` is given.
    """
    groups = []
    for run in dict.fromkeys(row["run"] for row in rows if row["fingerprint"]):
        found = store.read(Run(run).path("plan.parquet"))
        if found is not None:
            with naming(store.uri_of(Run(run).path("plan.parquet")), "restore it, or remove that run's folder"):
                file = pq.ParquetFile(pa.BufferReader(found[0]))
                said = (file.metadata.metadata or {}).get(UNLIKE_OTHERS)
                plan = file.read(columns=["id", "profile"])
        else:  # pruned: what the catalogue says of that run is the next best
            said, plan = None, table.filter(pc.equal(table.column("run"), run))
        names = [name for name in pc.unique(plan.column("profile")).drop_null().to_pylist() if name]
        try:
            unlike_others = (
                json.loads(said) if said is not None else [name for name in names if _profile(name).unlike_others]
            )
        except RequestError:
            if refuse:
                raise
            continue  # a picture may go without it; what it hid comes back with the next run
        groups.append(_Group(plan.column("id").combine_chunks(), unlike_others))
    return groups


def _profile(name: str) -> Profile:
    try:
        return Profile.load(name)
    except ProfileError as error:
        raise RequestError(f"Whether a picture may be like another one can't be told. {error}") from error

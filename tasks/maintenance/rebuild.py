"""Rebuild: the catalogue anew from the plans and ledgers of the runs and from people's decisions, where it was lost.

What the catalogue has stays as it is: a rebuild adds the rows that it lacks. They are what the runs made of them, one
run put in after another as they were committed, and what people decided on them. What only the catalogue knew can't
come back: the names under which pictures were published. They are published under new ones.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.pictures.profile import Profile, ProfileError
from tasks.catalogue.catalogue import PATH, Catalogue, UnreadableCatalogue, content_of, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit, living, strike_command
from tasks.catalogue.duplicates import settle_duplicates
from tasks.catalogue.retire import left_behind, retired
from tasks.catalogue.row_versions import Merged, merge
from tasks.errors import RequestError
from tasks.job import names_in
from tasks.kinds.registry import all_kinds, kinds_of_fields
from tasks.lane.outcome_recorder import OutcomeRecorder, TextColumn
from tasks.ledger.decision import DecisionHistory, Decisions, subject_of, text_of
from tasks.ledger.plan import PLANNED_FROM, UNLIKE_OTHERS
from tasks.ledger.run import Run, read_ledgers
from tasks.maintenance.prune import has_no_name_of_its_own, key_of, leftovers, published
from tasks.manifests.column_types import stacked
from tasks.outcome import CATALOGUE_SCHEMA, LEDGER
from tasks.processes.process import Process, this_process
from tasks.results.master import record_path
from tasks.review.reviews import Reviews
from tasks.stores.store import Changed, ListedObject, Store
from tasks.stores.stored_table import naming

DOING = "rebuild"


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did."""

    runs: int  # whose outcomes were read
    added: int  # rows that the catalogue lacked
    rows: int  # that it has now
    removed: int  # objects of publications that nobody names


@dataclass(frozen=True)
class Past:
    """A run of before, as far as the catalogue was made of it."""

    run: Run
    plan: pa.Table
    unlike_others: bytes | None  # JSON; None of one from before that was written down
    planned_at: datetime
    planned_from: int | None  # None of one from before there were versions
    committed_as: int | None  # None also of one that hasn't ended
    job: dict[str, Any]  # what job.json says
    ledgers: tuple[str, ...]  # where they lie

    @property
    def order(self) -> tuple[int, int, datetime, str]:
        """Sorts runs as their outcomes came into the catalogue; days count only for what has no versions.

        Where it isn't known when they came, it was after the plan was made.
        """
        planned_from = self.planned_from or 0
        return self.committed_as or planned_from, planned_from, self.planned_at, self.run.id

    @property
    def newest(self) -> int:
        """The newest version of the catalogue that this run knew."""
        return max(self.committed_as or 0, self.planned_from or 0)

    @property
    def profiles_unlike_others(self) -> list[str]:
        """The profiles of its rows that allow no picture like another one's."""
        if self.unlike_others is not None:
            return list(json.loads(self.unlike_others))
        names = pc.unique(self.plan.column("profile")).drop_null().to_pylist()
        return [name for name in names if name and _is_unlike_others(name)]

    def outcomes(self, store: Store, pool: Executor) -> pa.Table:
        """Return its ledgers as one table, with the rows that were bad when they were read."""
        ledgers = pa.concat_tables([LEDGER.empty_table(), *read_ledgers(store, self.ledgers, pool)])
        models = [*ledgers.column("model").slice(0, 1).to_pylist(), ""]  # of a job.json that doesn't say it yet
        # Jobs of before don't say where their rows' texts stand, but their fields say of which kind they are.
        kind = kinds_of_fields(names_in([kind.job for kind in all_kinds()], self.job.get("job", {})))[0]
        column: TextColumn = self.job.get("text_column", kind.text_column)
        record = OutcomeRecorder(self.run.id, str(self.job.get("model", models[0])), column)
        return pa.concat_tables([ledgers, record.bad(self.plan, self.planned_at)])


def rebuild(store: Store, process: Process | None = None) -> Rebuilt:
    """Add the rows that the catalogue lacks to it, or write it anew where it is gone or can't be read.

    Stopped anywhere, the same command goes on from there.

    Raises:
        RequestError: if somebody edits the catalogue at this moment, a plan or ledger can't be read, or there is none.
        StoreError: if the store is out of reach.
    """
    process = process or this_process()
    with process.threads() as pool:
        runs = sorted(_runs(store, pool), key=lambda past: past.order)
        if not runs and not store.exists(PATH):
            raise RequestError(f"There is nothing in {store.uri} that a catalogue could be made from.")
        _begin(store, max((past.newest for past in runs), default=0), process)
        decided = _decided(store.listing("reviews"))
        rows = _rows(store, runs, decided, pool)
        old = any(past.planned_from is None for past in runs)
        with CatalogueEdit(store, DOING, process, from_before=old) as edit:
            for before in edit.tries():
                known = pc.is_in(rows.column("id"), value_set=before.table.column("id").combine_chunks())
                lacking = rows.filter(pc.invert(known))
                edit.commit(before, _completed(before.table, lacking, store, runs, decided, pool))
        strays = [one for one in leftovers(store, published(store)) if _may_go(store, one)]
        list(pool.map(lambda one: store.delete(one.path), strays))
    return Rebuilt(len(runs), lacking.num_rows, edit.after.table.num_rows, len(strays))


def _completed(
    before: pa.Table, lacking: pa.Table, store: Store, runs: Iterable[Past], decided: dict[str, int], pool: Executor
) -> pa.Table:
    """Return the rows of the catalogue with those that it lacks, as people decided; itself where it lacks none."""
    if not lacking.num_rows:
        return before
    followed = _followed(store, lacking, decided, pool)
    return _without_duplicates(stacked([before, followed]), runs, decided)


def _runs(store: Store, pool: Executor) -> Iterable[Past]:
    """Give the runs that have a plan, in no order."""
    ledgers: dict[str, list[str]] = {}
    for one in store.listing("runs"):
        _, run, *file = one.path.split("/")
        if file == ["plan.parquet"]:
            ledgers.setdefault(run, [])
        elif file and file[0] == "shards" and file[-1].endswith(".parquet"):
            ledgers.setdefault(run, []).append(one.path)
    found = pool.map(lambda run: _past(store, Run(run), tuple(sorted(ledgers[run]))), sorted(ledgers))
    return [past for past in found if past is not None]


def _past(store: Store, run: Run, ledgers: tuple[str, ...]) -> Past | None:
    path = run.path("plan.parquet")
    found = store.read(path)
    if found is None:  # pruned: nothing of it is in the catalogue
        return None
    with naming(store.uri_of(path), "restore it, or remove that run's folder"):
        file = pq.ParquetFile(io.BytesIO(found[0]))
        plan, metadata = file.read(), file.metadata.metadata or {}
    version = metadata.get(PLANNED_FROM)
    return Past(
        run,
        plan,
        metadata.get(UNLIKE_OTHERS),
        planned_at=datetime.fromisoformat(metadata[b"planned_at"].decode()).astimezone(UTC),
        planned_from=None if version is None else int(version),
        committed_as=run.document(store, "summary.json").get("catalogue_version"),
        job=run.document(store, "job.json"),
        ledgers=ledgers,
    )


def _begin(store: Store, highest: int, process: Process) -> None:
    """See that there is a catalogue that can be read, with a version that no plan was made from yet.

    Raises:
        RequestError: if somebody edits it.
    """
    while True:
        found = store.read(PATH)
        try:
            catalogue = read_catalogue(store)
        except UnreadableCatalogue:  # it gives way to an empty one
            catalogue = Catalogue(CATALOGUE_SCHEMA.empty_table(), None if found is None else found[1])
        state = catalogue.state
        if others := living(state, process):
            name, editor = others[0]
            raise RequestError(
                f"{store.uri} is in use by {editor.sentence}: wait for it. If that process is dead, strike its entry: "
                f"{strike_command(store, name)}"
            )
        if catalogue.token is not None and state.version > highest:
            return
        try:
            content = content_of(catalogue.table, replace(state, version=max(state.version, highest) + 1))
            store.replace(PATH, content, expect=catalogue.token)
        except Changed:
            continue


def _rows(store: Store, runs: Iterable[Past], decided: dict[str, int], pool: Executor) -> pa.Table:
    """Return the rows of all runs, as one after another left them.

    What a person rejected is that, and isn't withdrawn because its row left the manifest, whichever came first.
    """
    table = CATALOGUE_SCHEMA.empty_table()
    for past in runs:
        planned_from = past.planned_from or 0
        try:
            outcomes = past.outcomes(store, pool)
        except pa.ArrowException as error:
            raise RequestError(
                f"A ledger in {store.uri_of(past.run.path('shards'))} can't be read: restore it, or remove that run's "
                "folder."
            ) from error
        merged = merge(table, past.plan, outcomes, run=past.run.id, planned_from=planned_from)
        others = merged.others
        if past.job.get("retire_missing"):
            others = _followed(store, others, decided, pool)
            gone = left_behind(others, str(past.job["job"]["manifest"]), store, pool)
            others = retired(others, gone, planned_from)
        table = Merged(others, merged.newer, merged.mine).whole()
    return table


def _decided(listed: Iterable[ListedObject]) -> dict[str, int]:
    """Return how many decisions there are on each subject that anybody decided on."""
    numbers: dict[str, int] = {}
    for one in listed:
        subject = one.path.split("/")[-2]
        numbers[subject] = numbers.get(subject, 0) + 1
    return numbers


def _followed(store: Store, rows: pa.Table, decided: dict[str, int], pool: Executor) -> pa.Table:
    """Return the rows as people decided on them, one decision after another, as they came."""
    for number in range(1, max(decided.values(), default=0) + 1):
        reviews = Reviews(_First(store, number), pool)
        rows = reviews.follow(rows, _are_decided_on(rows, decided, number))
    return rows


class _First(Decisions):
    """The first decisions on every subject."""

    def __init__(self, store: Store, number: int) -> None:
        super().__init__(store)
        self.number = number

    def on(self, key: str, text: str) -> DecisionHistory:
        """Return what was decided, as `Decisions` does; only the first ones count."""
        history = super().on(key, text)
        return replace(history, decisions=history.decisions[: self.number])


def _are_decided_on(rows: pa.Table, decided: dict[str, int], number: int = 1) -> pa.ChunkedArray:
    """Return a mask of the rows on which people decided so often."""
    some = rows.select(["key", "prompt", "caption"]).to_pylist() if decided else [{}] * rows.num_rows
    mask = [bool(row) and decided.get(subject_of(row["key"], text_of(row)), 0) >= number for row in some]
    return pa.chunked_array([pa.array(mask, pa.bool_())])


def _without_duplicates(rows: pa.Table, runs: Iterable[Past], decided: dict[str, int]) -> pa.Table:
    """Return the rows with duplicates settled among those of each run; then again where people decided since.

    A person's answer settles those of the run that the row came from, and that may have been the last word on them.
    """
    last_word = set(pc.unique(rows.filter(_are_decided_on(rows, decided)).column("run")).to_pylist())
    for past in [*runs, *(past for past in runs if past.run.id in last_word)]:
        places = pc.index_in(past.plan.column("id"), value_set=rows.column("id").combine_chunks()).drop_null()
        mine = rows.take(places)
        settled = settle_duplicates(mine, past.profiles_unlike_others)
        if settled is not mine:
            others = pc.invert(pc.is_in(rows.column("id"), value_set=mine.column("id").combine_chunks()))
            rows = pa.concat_tables([rows.filter(others), settled])
    return rows


def _is_unlike_others(profile: str) -> bool:
    """Say whether a profile that a plan of before names allows no picture like another one's, if that is known here."""
    try:
        return Profile.load(profile).unlike_others
    except ProfileError:
        return False  # the next run that knows it settles that


def _may_go(store: Store, listed: ListedObject) -> bool:
    """Say whether nothing is lost with a publication: from before there were masters, it may be all that there is."""
    key = key_of(listed.path)
    return key is not None and (not has_no_name_of_its_own(listed.path) or store.exists(record_path(key)))

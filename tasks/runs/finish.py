"""Finish: the catalogue, the summary and the report of a run whose shards have ended, or of what there is of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from models.files.temporary_folder import temporary_folder
from tasks.catalogue.catalogue import PATH as CATALOGUE
from tasks.catalogue.catalogue import Catalogue, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit, perhaps_dead, strike_command
from tasks.catalogue.duplicates import settle_duplicates
from tasks.catalogue.retire import left_behind, retired
from tasks.catalogue.row_versions import Merged, beside, merge
from tasks.errors import RequestError
from tasks.kinds.registry import kind_named
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.ledger.decision import Decisions
from tasks.ledger.faults import told_by_lanes
from tasks.ledger.plan import Plan
from tasks.ledger.run import Run, write_json
from tasks.manifests.manifest_state import manifest_state
from tasks.outcome import LEDGER
from tasks.processes.process import Process, this_process
from tasks.reports.summary import Summary, summarise
from tasks.review.reviews import Reviews
from tasks.runs.prepare import Prepared
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreError

REPORT = "report.html"


@dataclass(frozen=True)
class Ended:
    """What a run's plan and its ledgers say of its rows."""

    plan: pa.Table  # every row
    planned_from: int  # the catalogue's version that the plan was made from
    outcomes: pa.Table  # of the rows of shards that have ended, and of those that failed when they were read
    complete: bool  # every shard has ended


@dataclass(frozen=True)
class Settled:
    """A run's outcomes in the catalogue."""

    catalogue: Catalogue
    version: int | None = None  # of the catalogue, that the outcomes were committed as


def finish(prepared: Prepared, *, started_at: datetime, untold: Sequence[str] = ()) -> Summary:
    """Put a run's outcomes into the catalogue, publish what passed, and write the summary and the report.

    `untold` is what people should know of the run beside that, in sentences.

    A run that was stopped gets its finished shards into the catalogue, and no summary in the store: it isn't over.
    Where nothing was left to do, nothing is written.
    """
    store, process = prepared.store, this_process()
    ended = collect(store, prepared, process)
    settled = settle(store, prepared, ended, process)
    mine = settled.catalogue.part(ended.plan)
    summary = sum_up(mine, ended, settled, store, prepared, process, started_at=started_at, untold=untold)
    if ended.complete and not prepared.complete:
        write_results(store, prepared.run, mine, summary)
    return summary


def collect(store: Store, prepared: Prepared, process: Process) -> Ended:
    """Read a run's plan, and the ledgers of the shards that have ended."""
    run = prepared.run
    with temporary_folder() as folder, process.threads() as pool:
        file = folder / "plan.parquet"
        store.download(run.path("plan.parquet"), file)
        plan = Plan(file, store.uri_of(run.path("plan.parquet")))
        rows = plan.table()
        if prepared.complete:
            return Ended(rows, plan.planned_from or 0, LEDGER.empty_table(), complete=True)
        ended, shards = run.outcomes(store, prepared.shards, pool)
        record = OutcomeRecorder(run.id, prepared.spec.model, kind_named(prepared.spec.kind).text_column)
        outcomes = pa.concat_tables([ended, record.bad(rows, plan.planned_at)])
        return Ended(rows, plan.planned_from or 0, outcomes, complete=shards == prepared.shards)


def settle(store: Store, prepared: Prepared, ended: Ended, process: Process) -> Settled:
    """Put a run's outcomes into the catalogue, and publish what passed: see `tasks.catalogue.catalogue_edit`."""
    if prepared.catalogue is not None:
        return Settled(prepared.catalogue)
    edit = CatalogueEdit(store, f"run {prepared.run.id}", process, prepared.editor, prepared.spec.from_before)
    with edit, process.threads() as pool:
        for before in edit.tries():
            edit.commit(before, rows_after(before.table, ended, prepared, store, pool))
    return Settled(edit.after, edit.committed_as)


def rows_after(before: pa.Table, ended: Ended, prepared: Prepared, store: Store, pool: Executor) -> pa.Table:
    """Return the catalogue's rows as they are after a run; the same table where it changes nothing."""
    merged = merge(before, ended.plan, ended.outcomes, run=prepared.run.id, planned_from=ended.planned_from)
    decided = Reviews(Decisions(store), pool).settle(merged.mine, before)
    mine = settle_duplicates(decided, prepared.unlike_others)
    others = merged.others
    if prepared.retires:
        others = retired(others, left_behind(others, prepared.manifest, store, pool), ended.planned_from)
    rows = Merged(others, merged.newer, mine).whole()
    return before if rows.equals(before) else rows


def sum_up(
    mine: pa.Table,
    ended: Ended,
    settled: Settled,
    store: Store,
    prepared: Prepared,
    process: Process,
    *,
    started_at: datetime,
    untold: Sequence[str],
) -> Summary:
    """Return the summary of `mine`, the catalogue's rows that a run's plan is about."""
    run, had_work = prepared.run, not prepared.complete
    return summarise(
        mine,
        run=run.id if had_work else None,
        store=store.uri,
        catalogue=store.uri_of(CATALOGUE),
        report=store.uri_of(run.path(REPORT)),
        rows=ended.plan.num_rows,
        left=_left(settled.catalogue, ended, store, prepared, process),
        started_at=started_at,
        complete=ended.complete,
        version=settled.version,
        perhaps_dead=_perhaps_dead(store, settled.catalogue, process),
        lanes=run.lanes(store) if had_work else [],
        unread=prepared.unread,
        warnings=prepared.warnings,
        expectation=prepared.expectation,
        made=kind_named(prepared.spec.kind).made,
        faults=[*(told_by_lanes(store, run) if had_work else []), *untold, *_changed_since(prepared)],
    )


def write_results(store: Store, run: Run, mine: pa.Table, summary: Summary) -> None:
    """Write a run's report and then its summary, which says that the run is complete."""
    from tasks.reports.report import write_report  # a night on which nothing changed writes none

    write_report(store, run.path(REPORT), mine, summary)
    write_json(store, run.path("summary.json"), summary.document())


def report_store(address: str) -> Summary:
    """Sum up all that a store's catalogue holds, whichever runs it came from, in a page at the store's top.

    Raises:
        RequestError: if there is no catalogue.
    """
    from tasks.reports.report import write_report

    store, started_at = open_store(address), datetime.now(UTC)
    catalogue = read_catalogue(store)
    if catalogue.token is None:
        raise RequestError(f"There is no catalogue in {store.uri}.")
    summary = summarise(
        catalogue.table,
        run=None,
        store=store.uri,
        catalogue=store.uri_of(CATALOGUE),
        report=store.uri_of(REPORT),
        rows=catalogue.table.num_rows,
        started_at=started_at,
        complete=True,
        perhaps_dead=_perhaps_dead(store, catalogue, this_process()),
    )
    write_report(store, REPORT, catalogue.table, summary)
    return summary


def _left(catalogue: Catalogue, ended: Ended, store: Store, prepared: Prepared, process: Process) -> int:
    """Return how many rows left the manifest, and are published or may be; a manifest's first rows don't tell."""
    if prepared.limited:
        return 0
    with process.threads() as pool:
        left = left_behind(beside(catalogue.table, ended.plan), prepared.manifest, store, pool)
    return pc.sum(left).as_py() or 0


def _changed_since(prepared: Prepared) -> list[str]:
    """Say whether the manifest was written again after it was planned, in a sentence."""
    try:
        is_same = manifest_state(prepared.manifest) == prepared.manifest_state
    except StoreError:  # nobody knows; the next run says what is wrong
        is_same = True
    changed = (
        f"The manifest {prepared.manifest} was written again while this ran: what is new in it is for the next run."
    )
    return [] if is_same or not prepared.manifest_state else [changed]


def _perhaps_dead(store: Store, catalogue: Catalogue, process: Process) -> list[str]:
    """Who may be dead on other machines, and what to do then, in sentences."""
    found = perhaps_dead(catalogue.state, process)
    return [f"{sentence} If it is dead: {strike_command(store, name)}" for name, sentence in found.items()]

"""Finish: the catalogue, the summary and the report of a run whose shards have ended, or of what there is of them."""

from __future__ import annotations

from collections.abc import Sequence
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
from tasks.ledger.faults import told
from tasks.ledger.plan import Plan
from tasks.ledger.run import write_json
from tasks.manifests.manifest_state import manifest_state
from tasks.processes.process import Process, this_process
from tasks.reports.summary import Summary, summarise
from tasks.review.reviews import Reviews
from tasks.runs.prepare import Prepared
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreError

REPORT = "report.html"


@dataclass(frozen=True)
class Settled:
    """A run's outcomes in the catalogue."""

    catalogue: Catalogue
    plan: pa.Table
    complete: bool  # every shard has ended
    version: int | None = None  # of the catalogue, that the outcomes were committed as


def finish(prepared: Prepared, *, started_at: datetime, untold: Sequence[str] = ()) -> Summary:
    """Put a run's outcomes into the catalogue, publish what passed, and write the summary and the report.

    `untold` is what people should know of the run beside that, in sentences.

    A run that was stopped gets its finished shards into the catalogue, and no summary in the store: it isn't over.
    Where nothing was left to do, nothing is written.
    """
    store, run, process = prepared.store, prepared.run, this_process()
    settled = settle(store, prepared, process)
    mine = settled.catalogue.part(settled.plan)
    with process.threads() as pool:
        left = left_behind(beside(settled.catalogue.table, settled.plan), prepared.manifest, store, pool)
    summary = summarise(
        mine,
        run=None if prepared.complete else run.id,
        store=store.uri,
        catalogue=store.uri_of(CATALOGUE),
        report=store.uri_of(run.path(REPORT)),
        rows=settled.plan.num_rows,
        left=0 if prepared.limited else pc.sum(left).as_py() or 0,
        started_at=started_at,
        complete=settled.complete,
        version=settled.version,
        perhaps_dead=_perhaps_dead(store, settled.catalogue, process),
        lanes=[] if prepared.complete else run.lanes(store),
        unread=prepared.unread,
        warnings=prepared.warnings,
        expectation=prepared.expectation,
        faults=[
            *([] if prepared.complete else told(store, run, 0)),
            *untold,
            *_changed_since(prepared),
        ],
    )
    if settled.complete and not prepared.complete:
        from tasks.reports.report import write_report  # a night on which nothing changed writes none

        write_report(store, run.path(REPORT), mine, summary)
        write_json(store, run.path("summary.json"), summary.document())  # last: it says that the run is complete
    return summary


def settle(store: Store, prepared: Prepared, process: Process) -> Settled:
    """Put a run's outcomes into the catalogue, and publish what passed: see `tasks.catalogue.catalogue_edit`."""
    run = prepared.run
    with temporary_folder() as folder, process.threads() as pool:
        file = folder / "plan.parquet"
        store.download(run.path("plan.parquet"), file)
        plan = Plan(file, store.uri_of(run.path("plan.parquet")))
        rows, planned_from = plan.table(), plan.planned_from or 0
        if prepared.complete:
            return Settled(read_catalogue(store), rows, complete=True)
        ended, shards = run.outcomes(store, prepared.shards, pool)
        record = OutcomeRecorder(run.id, prepared.spec.model, kind_named(prepared.spec.kind).text_column)
        outcomes = pa.concat_tables([ended, record.bad(rows, plan.planned_at)])
        reviews = Reviews(Decisions(store), pool)

        def change(before: Catalogue) -> pa.Table:
            merged = merge(before.table, rows, outcomes, run=run.id, planned_from=planned_from)
            mine = settle_duplicates(reviews.settle(merged.mine, before.table), prepared.unlike_others)
            others = merged.others
            if prepared.retires:
                others = retired(others, left_behind(others, prepared.manifest, store, pool), planned_from)
            whole = Merged(others, merged.newer, mine).whole()
            return before.table if whole.equals(before.table) else whole

        edit = CatalogueEdit(store, f"run {run.id}", process, prepared.editor, prepared.spec.from_before)
        return Settled(edit.commit(change), rows, shards == prepared.shards, edit.committed_as)


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


def _changed_since(prepared: Prepared) -> list[str]:
    """Whether the manifest was written again after it was planned, in a sentence."""
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

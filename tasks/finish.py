"""Finish: the catalogue, the summary and the report of a run whose shards have ended, or of what there is of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.temporary_folder import temporary_folder
from tasks.catalogue import PATH as CATALOGUE
from tasks.catalogue import merge, read_catalogue
from tasks.duplicates import Duplicates
from tasks.faults import told
from tasks.outcome import Outcome, Status, outcome_table
from tasks.places import clear
from tasks.plan import Plan, bad_rows
from tasks.prepare import Prepared
from tasks.record import said
from tasks.report import write_report
from tasks.request import RequestError
from tasks.reviews import Reviews
from tasks.run import write_json
from tasks.store import open_store
from tasks.summary import Summary, summarise

REPORT = "report.html"


@task(name="finish", task_run_name="finish", cache_policy=NO_CACHE)
def finish(prepared: Prepared, *, started_at: datetime, untold: Sequence[str] = ()) -> Summary:
    """Put a run's outcomes into the catalogue and write its summary and report.

    `untold` is what people should know of the run beside that, in sentences.

    A run that was stopped gets its finished shards into the catalogue, and no summary in the store: it isn't over.
    Where nothing was left to do, nothing is written.
    """
    store, run = open_store(prepared.spec.store), prepared.run
    with temporary_folder() as folder:
        file = folder / "plan.parquet"
        store.download(run.path("plan.parquet"), file)
        plan = Plan(file)
        if prepared.complete:
            mine, complete = read_catalogue(store).part(plan.table()), True
        else:
            ended, shards = run.outcomes(store, prepared.shards)
            outcomes = pa.concat_tables([ended, _bad(plan, prepared)])
            shelf = prepared.spec.making.shelf(store)
            reviews, duplicates = Reviews(store, lambda _: shelf), Duplicates(prepared.spec.profiles, shelf)
            mine = merge(
                store,
                plan.table(),
                outcomes,
                settle=lambda mine, before: duplicates.settle(reviews.settle(mine, before)),
            )
            complete = shards == prepared.shards
            if touched := {*_touched(outcomes), *reviews.keys, *duplicates.keys}:
                clear(touched, read_catalogue(store).table, shelf)
        summary = summarise(
            mine,
            run=None if prepared.complete else run.id,
            store=store.uri,
            catalogue=store.uri_of(CATALOGUE),
            report=store.uri_of(run.path(REPORT)),
            rows=plan.table().num_rows,
            started_at=started_at,
            complete=complete,
            lanes=[] if prepared.complete else run.lanes(store),
            unread=prepared.unread,
            faults=[*([] if prepared.complete else told(store, run, 0)), *untold],
        )
    if complete and not prepared.complete:
        write_report(store, run.path(REPORT), mine, summary)
        write_json(store, run.path("summary.json"), summary.document())  # last: it says that the run is complete
    return summary


def report_store(address: str) -> Summary:
    """Sum up all that a store's catalogue holds, whichever runs it came from, in a page at the store's top.

    Raises:
        RequestError: if there is no catalogue.
    """
    store, started_at = open_store(address), datetime.now(UTC)
    catalogue = read_catalogue(store)
    if catalogue.version is None:
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
    )
    write_report(store, REPORT, catalogue.table, summary)
    return summary


def _bad(plan: Plan, prepared: Prepared) -> pa.Table:
    """The outcomes of the rows that failed on their own when they were read."""
    record, spec = prepared.run.id, prepared.spec
    return outcome_table(
        [
            Outcome(
                id=row.id,
                status=Status.FAILED,
                reason=row.reason,
                message=row.problem,
                retryable=row.retryable,
                key="",
                seed=0,
                **said(row.prompt, spec.making.text_column),
                model=spec.model,
                profile="",
                judged_by="",
                run=record,
                attempt=1,
                finished_at=plan.planned_at,
            )
            for row in bad_rows(plan.table())
        ]
    )


def _touched(outcomes: pa.Table) -> list[str]:
    """The keys whose results may lie elsewhere than before: of what was refused, and of what was judged again."""
    refused = pc.is_in(outcomes.column("status"), value_set=pa.array([Status.REJECTED, Status.BLOCKED]))
    stored = pc.equal(outcomes.column("seconds"), 0)
    return list(pc.unique(outcomes.filter(pc.or_(refused, stored)).column("key")).to_pylist())

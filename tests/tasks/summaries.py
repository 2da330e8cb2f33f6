"""Summaries of runs that never were."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.ledger.plan import Unread
from tasks.outcome import Status
from tasks.reports.summary import Summary


def summary_of(
    rows: int,
    *,
    unjudged: int = 0,
    to_judge: int = 0,
    unread: Unread = Unread(),  # noqa: B008  frozen
    **counts: int,
) -> Summary:
    """So many rows, of which `counts` ended in other ways than done."""
    return Summary(
        run="run",
        store="out",
        catalogue="out/catalog.parquet",
        report="out/report.html",
        complete=True,
        catalogue_version=1,
        rows=rows,
        ended=rows,
        statuses={**dict.fromkeys(Status, 0), Status.DONE: rows - sum(counts.values()), **counts},
        unjudged=unjudged,
        waiting=0,
        unread=unread,
        to_judge=to_judge,
        faults=(),
        causes=(),
        made="rendered",
        rendered=0,
        kept=0,
        left=0,
        started_at=datetime.now(UTC),
        seconds=1.0,
        pictures_a_minute=None,
        rendering=0.0,
        expectation=None,
        lanes=(),
        warnings=(),
        perhaps_dead=(),
    )

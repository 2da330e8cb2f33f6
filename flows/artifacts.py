"""The few artifacts that a run leaves in Prefect: how far it is, its summary, and where its report lies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from tasks.outcome import Outcome
from tasks.prepare import Prepared
from tasks.progress import listener
from tasks.summary import Summary

SECONDS_BETWEEN_UPDATES = 10.0


@contextmanager
def progress_artifact(prepared: Prepared) -> Iterator[None]:
    """Show in Prefect how many of a run's rows have ended, beside whoever listens already."""
    # Without a key: two runs at once would write over each other's.
    artifact: Any = create_progress_artifact(0.0, description=f"Rows of run {prepared.run.id} that have ended")
    before, lock = listener.get(), threading.Lock()
    ended, told = prepared.ended, time.monotonic()

    def listen(outcomes: Sequence[Outcome]) -> None:
        nonlocal ended, told
        if before is not None:
            before(outcomes)
        with lock:
            ended += len(outcomes)
            if time.monotonic() - told < SECONDS_BETWEEN_UPDATES:
                return
            told = time.monotonic()
        update_progress_artifact(artifact, min(100.0, 100 * ended / max(prepared.to_do, 1)))

    token = listener.set(listen)
    try:
        yield
        update_progress_artifact(artifact, 100.0)
    finally:
        listener.reset(token)


def publish_summary(summary: Summary) -> None:
    """Leave the counts, and the way to the report."""
    create_markdown_artifact(summary_text(summary))
    address = summary.report if "://" in summary.report else Path(summary.report).as_uri()
    create_link_artifact(address, link_text="report", description=f"Report of run {summary.run}")


def summary_text(summary: Summary) -> str:
    """The counts and causes of a run as Markdown."""
    rows = [f"| {status} | {count} |" for status, count in summary.statuses.items()]
    causes = [f"| {c.status} | {c.reason} | {c.rows} |" for c in summary.causes]
    table = ["| outcome | rows |", "| --- | ---: |", *rows]
    why = ["", "| outcome | reason | rows |", "| --- | --- | ---: |", *causes] if causes else []
    told = [*summary.used, *summary.upkeep]
    used = ["", *(f"- {sentence}" for sentence in told)] if told else []
    head = f"**{summary.rows} rows**, {summary.rendered} rendered"
    asks = ["", f"{summary.waiting} of them wait for review."] if summary.waiting else []
    notices = [line for sentence in summary.notices for line in ("", sentence)]
    return "\n".join([head, "", *table, *why, *asks, *notices, *used])

"""What a run leaves in Prefect when it has ended: its summary, and the way to its report."""

from __future__ import annotations

from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate

from flows.orchestration.telling import PrefectNotifier
from tasks.reports.summary import Summary


def publish_summary(telling: PrefectNotifier, summary: Summary) -> None:
    """Leave the counts, and the way to the report, if Prefect is there."""
    address = summary.report if "://" in summary.report else Path(summary.report).as_uri()

    def tell(client: SyncPrefectClient) -> None:
        for artifact in (
            ArtifactCreate(type="markdown", data=summary_text(summary)),
            ArtifactCreate(type="markdown", data=f"[report]({address})", description=f"Report of run {summary.run}"),
        ):
            client.create_artifact(artifact.model_copy(update={"flow_run_id": telling.flow_run_id}))

    telling.attempt(tell)


def summary_text(summary: Summary) -> str:
    """Return the counts and causes of a run as Markdown."""
    rows = [f"| {status} | {count} |" for status, count in summary.statuses.items()]
    causes = [f"| {c.status} | {c.reason} | {c.rows} |" for c in summary.causes]
    table = ["| outcome | rows |", "| --- | ---: |", *rows]
    why = ["", "| outcome | reason | rows |", "| --- | --- | ---: |", *causes] if causes else []
    told = [*summary.used, *filter(None, [summary.expected]), *summary.upkeep]
    used = ["", *(f"- {sentence}" for sentence in told)] if told else []
    head = f"**{summary.rows} rows**, {summary.rendered} {summary.made}"
    asks = ["", f"{summary.waiting} of them wait for review."] if summary.waiting else []
    notices = [line for sentence in (*summary.notices, *summary.warnings) for line in ("", sentence)]
    return "\n".join([head, "", *table, *why, *asks, *notices, *used])

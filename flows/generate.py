"""The generate flow: a manifest of prompts in, pictures and a catalogue out."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow

from flows.artifacts import progress_artifact, publish_summary
from tasks.finish import finish
from tasks.job import Job
from tasks.lane import lane
from tasks.outcome import Retry
from tasks.prepare import Request, prepare
from tasks.progress import tell_start
from tasks.stopping import Stopped, stopping_in_order
from tasks.summary import Summary


@flow(name="generate", flow_run_name="generate {job.manifest}")
def generate(
    job: Job,
    limit: int | None = None,
    retry: tuple[Retry, ...] = (),
) -> Summary:
    """Generate the pictures of a manifest, and say what became of every row.

    Args:
        job: what to make, and how.
        limit: only the manifest's first rows.
        retry: statuses whose rows are done again: failed, rejected or blocked.
    """
    started_at = datetime.now(UTC)
    prepared = prepare(Request(job, limit, frozenset(retry)))
    tell_start(prepared.to_do, prepared.ended)
    if not prepared.complete:
        with stopping_in_order(), progress_artifact(prepared):
            try:
                lane(0, prepared.spec, range(prepared.shards))
            except Stopped:
                finish(prepared, started_at=started_at)
                raise
    summary = finish(prepared, started_at=started_at)
    publish_summary(summary)
    return summary

"""The decompose flow: a manifest of source pictures in, their layers and a catalogue out."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.road import travel
from tasks.job import DecomposeJob
from tasks.outcome import Retry
from tasks.reports.summary import Summary


@flow(name="decompose", flow_run_name="decompose {job.manifest}")
def decompose(
    job: DecomposeJob,
    limit: int | None = None,
    retry: tuple[Retry, ...] = (),
    retire_missing: bool = False,
) -> State[Summary]:
    """Take the pictures of a manifest apart into layers, and say what became of every row.

    Args:
        job: what to take apart, and how.
        limit: only the manifest's first rows.
        retry: statuses whose rows are done again: failed, rejected or blocked.
        retire_missing: withdraw rows that left the manifest.
    """
    return travel(job, limit, retry, retire_missing=retire_missing)

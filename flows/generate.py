"""The generate flow: a manifest of prompts in, pictures and a catalogue out."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.road import travel
from tasks.job import GenerateJob
from tasks.outcome import Retry
from tasks.reports.summary import Summary


@flow(name="generate", flow_run_name="generate {job.manifest}")
def generate(
    job: GenerateJob,
    limit: int | None = None,
    retry: tuple[Retry, ...] = (),
    retire_missing: bool = False,
) -> State[Summary]:
    """Generate the pictures of a manifest, and say what became of every row.

    Args:
        job: what to make, and how.
        limit: only the manifest's first rows.
        retry: statuses whose rows are done again: failed, rejected or blocked.
        retire_missing: withdraw rows that left the manifest.
    """
    return travel(job, limit, retry, retire_missing=retire_missing)

"""The flow of a kind of job: a manifest in, results and a catalogue out."""

from __future__ import annotations

from functools import cache
from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State

from flows.run_steps import run_manifest
from tasks.job import Job
from tasks.kinds.job_kind import JobKind
from tasks.outcome import Retry
from tasks.reports.summary import Summary

ARGUMENTS = """

Args:
    job: what to make, and how.
    limit: only the manifest's first rows.
    retry: statuses whose rows are done again: failed, rejected or blocked.
    retire_missing: withdraw rows that left the manifest.
"""
"""What Prefect's form says of a flow's parameters."""


@cache
def flow_of(kind: JobKind[Any]) -> Flow[..., State[Summary]]:
    """Return the flow of a kind; its parameter `job` is of the kind's own type, of which Prefect makes the form."""

    def run(
        job: Job, limit: int | None = None, retry: tuple[Retry, ...] = (), retire_missing: bool = False
    ) -> State[Summary]:
        return run_manifest(job, limit, retry, retire_missing=retire_missing)

    run.__name__ = run.__qualname__ = kind.name
    run.__doc__ = kind.does + ARGUMENTS
    run.__annotations__ = {
        "job": kind.job,
        "limit": int | None,
        "retry": tuple[Retry, ...],
        "retire_missing": bool,
        "return": State[Summary],
    }
    return flow(name=kind.name, flow_run_name=f"{kind.name} {{job.manifest}}")(run)

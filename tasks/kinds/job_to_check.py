"""A job that is to be checked, of whichever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import declared_pipeline
from tasks.job import Job, job_of, values_of
from tasks.kinds.registry import kinds_of_fields


def load_job_to_check(file: Path | None, **flags: Any) -> Job:
    """As `tasks.job.load_job`, of the kind that its fields or its checkpoint are for; manifest and store may be empty.

    Raises:
        RequestError: as `load_job`.
    """
    values = {"manifest": "", "store": "", **values_of(file, flags)}
    first, *others = kinds_of_fields(values.keys())
    job: Job = job_of(first.job, values, file)
    if others:
        pipeline = declared_pipeline(job.model, job.revision)
        meant = next((kind for kind in others if kind.pipeline == pipeline), first)
        job = job_of(meant.job, values, file)
    return job

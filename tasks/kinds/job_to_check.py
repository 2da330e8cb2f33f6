"""A job that is to be checked, of whichever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import declared_pipeline
from models.pipelines import does_work_of
from tasks.job import Job, names_in
from tasks.job_file import job_of, read_job
from tasks.kinds.registry import all_kinds, kinds_of_fields


def fields_said(values: Mapping[str, Any], flags: Mapping[str, Any]) -> set[str]:
    """Return the names of the fields that a job's file, as `tasks.job_file.read_job` gives it, and its flags say."""
    given = {name for name, value in flags.items() if value is not None}
    return given | names_in([kind.job for kind in all_kinds()], values)


def load_job_to_check(file: Path | None, **flags: Any) -> Job:
    """Load a job of the kind that its fields or checkpoint are for; its manifest and store may be empty.

    Raises:
        RequestError: as `tasks.job_file.load_job`.
    """
    values = {"manifest": "", "store": "", **(read_job(file) if file else {})}
    first, *others = kinds_of_fields(fields_said(values, flags))
    job: Job = job_of(first.job, values, flags, file)
    if others:
        declared = declared_pipeline(job.model.model, job.model.revision)
        meant = next((kind for kind in others if does_work_of(kind.pipeline, declared)), first)
        job = job_of(meant.job, values, flags, file)
    return job

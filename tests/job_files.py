"""Job files, written as fields that stand one under another."""

from __future__ import annotations

from itertools import groupby

from tasks.job import DecomposeJob, GenerateJob, job_fields

SECTIONS = {name: field.section for kind in (GenerateJob, DecomposeJob) for name, field in job_fields(kind).items()}


def job_file(*fields: str) -> str:
    """The text of a job file of lines such as `steps = 4`, each in the section where it belongs."""
    placed = sorted((SECTIONS.get(line.partition("=")[0].strip()) or "", at) for at, line in enumerate(fields))
    parts = groupby(placed, key=lambda one: one[0])
    return "\n".join(
        line for section, ats in parts for line in ([f"[{section}]"] if section else []) + [fields[at] for _, at in ats]
    )

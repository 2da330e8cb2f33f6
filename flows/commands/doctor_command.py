"""`packshot doctor`: what will work and what won't."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from flows.commands.exits import OK, OUT_OF_REACH, WRONG_REQUEST
from flows.commands.options import JOB_FILE, JSON, takes
from flows.commands.output import show_json, terminal
from tasks.kinds.job_to_check import load_job_to_check
from tasks.kinds.registry import all_fields

if TYPE_CHECKING:
    from models.finding import Finding

EXAMINED = (
    "store",
    "model",
    "revision",
    "loras",
    "controlnet",
    "controlnet_revision",
    "mask_model",
    "mask_model_revision",
    "clip",
    "clip_revision",
    "device",
    "precision",
    "attention",
    "step_cache",
    "condition_cache",
    "fused",
    "placement",
    "gpu_memory",
    "memory_fraction",
    "batch",
    "lanes",
    "ray",
)
"""Fields of a job that decide what is looked at."""

app = typer.Typer()


@app.command()
@takes(all_fields(), EXAMINED)
def doctor(json: JSON = False, job: JOB_FILE = None, **fields: Any) -> None:
    """Say what will work and what won't, from the GPU's driver to the store, and what to do about it."""
    examined = load_job_to_check(job, **fields)
    from flows.commands.doctor_checks import checks_of
    from flows.views.doctor_findings import document, show_findings
    from tasks.doctor.examine import examine

    coming = examine(checks_of(examined))
    findings = list(coming) if json else show_findings(terminal, coming)
    code = exit_code(findings)
    if json:
        show_json(document(findings, code))
    raise SystemExit(code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the command's exit code: a wrong request comes first, whatever else it needs may be another's."""
    faults = {finding.fault for finding in findings if finding.status == "failed"}
    if "request" in faults:
        return WRONG_REQUEST
    return OUT_OF_REACH if faults else OK

"""`packshot probe` and `calibrate`: a policy is fitted to labelled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import JOB_FILE, JUDGING, takes
from flows.commands.output import terminal
from tasks.job import Job, job_fields
from tasks.kinds.job_to_check import load_job_to_check

READING = ("model", "revision", "device", "precision", "gpu_memory", "memory_fraction")
"""Fields of a job that decide how prompts are read."""
CALIBRATING = (*JUDGING, "image_hosts", "max_image_bytes", "max_image_pixels")
"""Fields of a job that decide what is measured, and which pictures are read for it."""

app = typer.Typer()


@app.command()
@takes(job_fields(Job), READING)
def probe(
    examples: Annotated[str, typer.Argument(help="Parquet or CSV with columns prompt and label: safe, or concepts.")],
    out: Annotated[Path, typer.Option(help="File to write: mine.probe.safetensors.")],
    false_positives: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of safe prompts that a concept may refuse.")
    ] = 0.01,
    review: Annotated[list[str] | None, typer.Option(help="Concept that asks a person; others block.")] = None,
    job: JOB_FILE = None,
    **fields: Any,
) -> None:
    """Train a probe for a policy: what the model's own text encoder makes of labelled prompts, weighed by concept."""
    trained_for = load_job_to_check(job, **fields)
    from flows.views.probe_figures import show_probe
    from tasks.calibration.train_probe import train_probe

    trained = train_probe(trained_for, examples, out, max_false_positives=false_positives, review=tuple(review or ()))
    show_probe(terminal, trained, out)


@app.command()
@takes(job_fields(Job), CALIBRATING)
def calibrate(
    examples: Annotated[
        str, typer.Argument(help="Parquet or CSV: prompt or image or both, and label: concepts, or safe.")
    ],
    out: Annotated[Path, typer.Option(help="The new policy; the page lies beside it, as .html.")],
    false_positives: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Share of what is safe that each concept may stop.")
    ] = 0.01,
    held_out: Annotated[
        float, typer.Option(min=0.1, max=0.9, help="Share of the examples that figures are of, and no choice.")
    ] = 0.5,
    fidelity: Annotated[
        str | None,
        typer.Option(help="Instruction (a name or a file) whose limits are chosen, by pairs: source, result, label."),
    ] = None,
    job: JOB_FILE = None,
    **fields: Any,
) -> None:
    """Choose a policy's thresholds by labelled prompts and pictures, and write it with a page about its mistakes.

    With --fidelity, choose the limits of an edit's instruction by labelled pairs: kept, changed, moved, not_changed.
    """
    base = load_job_to_check(job, **fields)
    if fidelity is not None:
        from flows.views.fidelity_limits import show_limits
        from tasks.calibration.calibrate_fidelity import calibrate_fidelity

        chosen = calibrate_fidelity(examples, fidelity, base, out, refused=false_positives, held_out=held_out)
        show_limits(terminal, *chosen)
        return
    from flows.views.calibrations import show_calibration
    from tasks.calibration.calibrate import calibrate

    show_calibration(terminal, *calibrate(examples, base, out, false_positives=false_positives, held_out=held_out))

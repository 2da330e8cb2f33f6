"""`packshot policy check`: what is refused, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.exits import OK
from flows.commands.options import JOB_FILE, JSON, JUDGING, takes
from flows.commands.output import show_json, terminal
from tasks.errors import RequestError
from tasks.job import Job, job_fields
from tasks.kinds.job_to_check import load_job_to_check

REFUSED = 1  # a prompt or picture that was checked
CHECKING = (*JUDGING, "model", "revision", "precision")
"""Fields of a job that decide what is refused, and what a policy's probe goes by."""

app = typer.Typer(no_args_is_help=True, help="What is refused, and why.")


@app.command()
@takes(job_fields(Job), CHECKING)
def check(
    prompt: Annotated[str | None, typer.Argument(help="The prompt.")] = None,
    picture: Annotated[Path | None, typer.Option(help="A picture; the prompt is then what it was made of.")] = None,
    json: JSON = False,
    job: JOB_FILE = None,
    **fields: Any,
) -> None:
    """Say what the policy makes of a prompt, of a picture, or of a picture beside its prompt: which rule, how near."""
    if prompt is None and picture is None:
        raise RequestError("There is nothing to check: give a prompt, or a picture with --picture FILE.")
    judged = load_job_to_check(job, **fields)
    from flows.views.explanations import document, show_explanation
    from tasks.calibration.explain import ask_probe, explain_picture, explain_prompt, judges_of

    judges = judges_of(judged)
    said = []
    if prompt is not None:
        said.append(explain_prompt(prompt, judges, ask_probe(prompt, judged, judges.policy)))
    if picture is not None:
        said.append(explain_picture(picture, prompt, judges))
    if json:
        show_json(document(judges.policy, said))
    else:
        for one in said:
            show_explanation(terminal, one)
    raise SystemExit(OK if all(one.verdict.allowed for one in said) else REFUSED)

"""`packshot manifest check`: what a run would make of a manifest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from flows.commands.exits import OK, ROWS_FAILED
from flows.commands.options import JOB_FILE, JSON, MANIFEST, takes
from flows.commands.output import show_json, terminal
from tasks.job import DecomposeJob, GenerateJob

OF_ROWS = (
    *("model", "revision", "loras", "scheduler", "policy", "clip", "profile", "aigc_producer", "c2pa_certificate"),
    *("c2pa_key", "prompt_template", "width", "height", "steps", "guidance", "variants", "controlnet", "layers"),
    "resolution",
)
"""Fields of a job that decide which rows of a manifest fail before a picture is looked at."""
KNOWN = {**DecomposeJob.model_fields, **GenerateJob.model_fields}

app = typer.Typer(no_args_is_help=True, help="What a run would make of a manifest.")


@app.command()
@takes(KNOWN, OF_ROWS)
def check(
    manifest: MANIFEST,
    kind: Annotated[
        Literal["generate", "decompose"] | None,
        typer.Option(help="The job that it is for. [default: by its columns]", show_default=False),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Whose catalogue the carried columns have to fit, too.", show_default=False)
    ] = None,
    json: JSON = False,
    job: JOB_FILE = None,
    **fields: Any,
) -> None:
    """Say which rows of a manifest would fail and why, and what looks wrong, without a model, in seconds."""
    from flows.views.manifest_findings import document, show_checked
    from tasks.runs.manifest_check import check_manifest

    given = {name: value for name, value in fields.items() if value is not None}
    checked = check_manifest(manifest, job, kind, store=store, **given)
    if json:
        show_json(document(checked))
    else:
        show_checked(terminal, checked)
    raise SystemExit(ROWS_FAILED if checked.would_fail else OK)

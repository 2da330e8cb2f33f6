"""`packshot manifest check`: what a run would make of a manifest."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.exits import OK, ROWS_FAILED
from flows.commands.options import JOB_FILE, JSON, MANIFEST, takes
from flows.commands.output import show_json, terminal
from tasks.kinds.registry import all_fields, all_kinds

OF_ROWS = (
    *("model", "revision", "loras", "scheduler", "policy", "clip", "profile", "aigc_producer", "c2pa_certificate"),
    *("c2pa_key", "steps", "guidance"),
    *dict.fromkeys(field for kind in all_kinds() for field in kind.row_fields),
)
"""Fields of a job that decide which rows of a manifest fail before a picture is looked at."""

app = typer.Typer(no_args_is_help=True, help="What a run would make of a manifest.")


def kind_name(given: str) -> str:
    """Return the name of a kind of job, refused where there is no such kind."""
    names = [kind.name for kind in all_kinds()]
    if given not in names:
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(map(repr, names))}.")
    return given


@app.command()
@takes(all_fields(), OF_ROWS)
def check(
    manifest: MANIFEST,
    kind: Annotated[
        str | None,
        typer.Option(
            parser=kind_name,
            metavar="|".join(kind.name for kind in all_kinds()),
            help="The job that it is for. [default: by its columns]",
            show_default=False,
        ),
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

"""`packshot generate`, `decompose` and every other kind of job, and `report`: what became of every row is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from flows.commands.exits import OK, ROWS_FAILED
from flows.commands.options import JOB_FILE, MANIFEST, STORE, takes
from flows.commands.output import problems, terminal
from flows.orchestration.ending import kept_on_gpu
from tasks.job import Job, job_fields
from tasks.job_file import load_job
from tasks.kinds.job_kind import JobKind
from tasks.outcome import Retry

LIMIT = Annotated[int | None, typer.Option(min=1, help="Only the manifest's first rows.")]
RETRY = Annotated[list[Retry] | None, typer.Option(help="Do the rows again that ended so.")]
RETIRE_MISSING = Annotated[bool, typer.Option("--retire-missing", help="Withdraw rows that left the manifest.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]

app = typer.Typer()


def command_for(kind: JobKind[Any]) -> Callable[..., None]:
    """Return the command that runs jobs of a kind, with an option for every field of its jobs."""

    @takes(job_fields(kind.job))
    def command(
        manifest: MANIFEST,
        job: JOB_FILE = None,
        limit: LIMIT = None,
        retry: RETRY = None,
        retire_missing: RETIRE_MISSING = False,
        dry_run: DRY_RUN = False,
        **fields: Any,
    ) -> None:
        run_job(load_job(kind.job, job, manifest=manifest, **fields), limit, retry, retire_missing, dry_run)

    return command


def run_job(job: Job, limit: int | None, retry: list[Retry] | None, retire_missing: bool, dry_run: bool) -> None:
    """Run a job, or say what it would do."""
    again = frozenset(retry or ())
    if dry_run:
        from flows.commands.terminal import show_estimate
        from tasks.runs.prepare import RunRequest, estimate

        show_estimate(terminal, estimate(RunRequest(job, limit, again, retire_missing)))
        return
    from flows.commands.terminal import run_in_terminal, show_summary

    summary = run_in_terminal(problems, kept_on_gpu(job), limit, again, retire_missing=retire_missing)
    show_summary(terminal, summary)
    raise SystemExit(ROWS_FAILED if summary.is_partial else OK)


@app.command()
def report(store: STORE) -> None:
    """Show what a store's catalogue holds, and write the page about all of it."""
    from flows.commands.terminal import show_summary
    from tasks.runs.finish import report_store

    show_summary(terminal, report_store(store))

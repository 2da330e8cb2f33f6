"""What a person at a terminal sees: a bar while a run goes on, and one table at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.views.moving import OneLineProgress, heard_by, say
from tasks.job import Job
from tasks.kinds.registry import kind_of
from tasks.outcome import Outcome, Retry, Status
from tasks.processes.stopping import stopping_at_once
from tasks.progress import listener, remarked, started
from tasks.reports.summary import Summary
from tasks.runs.prepare import Estimate

UNJUDGED = (
    "unjudged"  # of rows while a run goes on: a check failed of them, and what becomes of them is seen at its end
)
COLOURS = {
    Status.DONE: "green",
    Status.BLOCKED: "red",
    Status.REJECTED: "yellow",
    Status.FAILED: "magenta",
    UNJUDGED: "bold red",
}


def run_in_terminal(
    console: Console, job: Job, limit: int | None, retry: frozenset[Retry], *, retire_missing: bool = False
) -> Summary:
    """Run what there is to do in the flow, against a Prefect server, with a bar on the terminal."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # where rich would end with an empty line
    )
    counts: dict[str, int] = dict.fromkeys([*Status, UNJUDGED], 0)
    with stopping_at_once(), bar:
        shown = bar.add_task("starting", total=None, counts="")

        def start(to_do: int, ended: int) -> None:
            bar.update(shown, description="rows", total=to_do, completed=ended)

        def listen(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                counts[UNJUDGED if outcome.keeps else outcome.status] += 1
            words = "  ".join(f"[{COLOURS[status]}]{rows} {status}[/]" for status, rows in counts.items() if rows)
            bar.update(shown, advance=len(outcomes), counts=words)

        # These take a second to import: the bar is up before that.
        from flows.orchestration.beginning import Beginning, handing_over
        from flows.orchestration.ending import ending
        from flows.orchestration.prefect_settings import find_server, import_prefect
        from tasks.runs.finish import finish
        from tasks.runs.prepare import RunRequest, prepare

        server = find_server()
        for sentence in server.passed_over:
            say(console, sentence)
        started_at, request = datetime.now(UTC), RunRequest(job, limit, retry, retire_missing)
        with heard_by(OneLineProgress(lambda words: bar.update(shown, description=words), partial(say, console))):
            prepared = prepare(request)
        if prepared.complete and server.address is None:
            return finish(prepared, started_at=started_at)  # nobody could watch it
        bar.update(shown, description="starting")

        told, begun, remarks = listener.set(listen), started.set(start), remarked.set(partial(say, console))
        try:
            with handing_over(Beginning(request, prepared, started_at)):
                import_prefect()
                return _run_flow(job, limit, tuple(sorted(retry)), retire_missing=retire_missing)
        finally:
            if not ending.is_told:
                say(console, "Prefect's server is away, and doesn't know that the run has ended.")
            listener.reset(told)
            started.reset(begun)
            remarked.reset(remarks)


def _run_flow(job: Job, limit: int | None, retry: tuple[Retry, ...], *, retire_missing: bool) -> Summary:
    """Run the flow of a job's kind beside a Prefect server."""
    from flows.job_flow import flow_of
    from flows.orchestration.ending import run_to_its_end
    from flows.orchestration.server import prefect_server

    with prefect_server():
        flow = flow_of(kind_of(job))
        return run_to_its_end(partial(flow, job, limit, retry, retire_missing, return_state=True))


def show_summary(console: Console, summary: Summary) -> None:
    """Show one table: how the rows ended and why, and where to look."""
    table = Table(title=_title(summary), title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("outcome")
    table.add_column("rows", justify="right")
    table.add_column("reason")
    table.add_column("for example", overflow="fold")
    for status, rows in summary.statuses.items():
        colour = COLOURS[Status(status)]
        causes = [cause for cause in summary.causes if cause.status == status]
        if rows and not causes:
            table.add_row(f"[{colour}]{status}[/]", str(rows), "", "")
        for cause in causes:
            table.add_row(f"[{colour}]{status}[/]", str(cause.rows), cause.reason, escape(cause.example))
    console.print(table)
    console.print()
    for sentence in summary.used:
        console.print(f"{'drawn on':10} {escape(sentence)}", soft_wrap=True, highlight=False)
    if summary.expected:
        console.print(f"{'expected':10} {escape(summary.expected)}", soft_wrap=True, highlight=False)
    for sentence in summary.notices:
        console.print(f"{'notice':10} {escape(sentence)}", style="bold red", soft_wrap=True, highlight=False)
    _show_warnings(console, summary.warnings)
    if summary.unjudged:
        unjudged = "1 row was" if summary.unjudged == 1 else f"{summary.unjudged} rows were"
        console.print(
            f"{'unjudged':10} {unjudged} refused because a check failed: --retry blocked --retry rejected checks again",
            style="bold red",
            soft_wrap=True,
            highlight=False,
        )
    if summary.waiting:
        waiting = "1 row waits" if summary.waiting == 1 else f"{summary.waiting} rows wait"
        asks = f"{waiting} for a person: packshot review list --store {summary.store}"
        console.print(f"{'review':10} {escape(asks)}", soft_wrap=True, highlight=False)
    for sentence in summary.upkeep:
        console.print(f"{'store':10} {escape(sentence)}", soft_wrap=True, highlight=False)
    for name, place in (("catalogue", summary.catalogue), ("report", summary.report)):
        if place:
            console.print(f"{name:10} {escape(place)}", soft_wrap=True, highlight=False)


def show_estimate(console: Console, estimate: Estimate) -> None:
    """Show what a run would do, before it does it."""
    plan_counts = estimate.plan_counts
    table = Table(
        title="Dry run: nothing was written", title_justify="left", title_style="bold", pad_edge=False, box=None
    )
    table.add_column("rows", justify="right")
    table.add_column("would be")
    shards = "1 shard" if plan_counts.shards == 1 else f"{plan_counts.shards} shards"
    table.add_row(str(plan_counts.to_do), f"screened, and rendered or judged again, in {shards}")
    table.add_row(str(plan_counts.carried_over), "left as the catalogue has them")
    table.add_row(str(plan_counts.bad), "failed when they were read")
    if plan_counts.unread:
        table.add_row(str(plan_counts.unread), "left as the catalogue has them, because their source can't be read now")
    if estimate.left:
        stays = "withdrawn" if estimate.retires else "left as they are: --retire-missing withdraws them"
        table.add_row(str(estimate.left), f"no longer in the manifest, and {stays}")
    console.print(table)
    for (width, height, steps, guidance, layers), rows in sorted(plan_counts.shapes.items()):
        into = f" into {layers} layers" if layers else ""
        console.print(f"  {rows} × {width}×{height}{into}, {steps} steps, guidance {guidance:g}", highlight=False)
    for model in estimate.beside:
        console.print(f"  with the {model}", highlight=False)
    console.print(_duration(estimate), soft_wrap=True, highlight=False)
    if estimate.bytes_a_row is None:
        console.print("How much room that takes isn't known: this store's catalogue has no picture yet.")
    else:
        room = decimal(round(plan_counts.to_do * estimate.bytes_a_row))
        console.print(f"At most {room} of masters, at {decimal(round(estimate.bytes_a_row))} a row so far.")
    if estimate.published_twice and plan_counts.to_do:
        console.print("What is done takes as much room again: it is published as a copy of its master.")
    _show_warnings(console, estimate.warnings)


def _show_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Show what looks wrong in a manifest, and was read all the same."""
    for sentence in warnings:
        console.print(f"{'look at':10} {escape(sentence)}", style="yellow", soft_wrap=True, highlight=False)


def _duration(estimate: Estimate) -> str:
    """Return how long it would take, and what that would cost."""
    expected, price = estimate.expectation, estimate.price_per_hour
    if not estimate.plan_counts.to_do:
        return "That takes no rendering."
    if expected is None:
        return "How long that takes isn't known: no run of this store has drawn with this model on such a device yet."
    hours = [seconds / 3600 for seconds in (expected.seconds, expected.low, expected.high)]
    said = "At most {:.2f} hours ({:.2f} to {:.2f}) of rendering".format(*hours) + _shared(hours, estimate.lanes)
    if price is not None:
        said += ", which cost {:.2f} ({:.2f} to {:.2f})".format(*(price * each for each in hours))
    each = expected.seconds / expected.rows
    return f"{said}, at {each:.2f} s a picture as in earlier runs on {expected.device}."


def _shared(hours: Sequence[float], lanes: int | None) -> str:
    """Say how long several lanes take for hours of one; what each takes to start and to load the model isn't known."""
    if lanes == 1:
        return ""
    if lanes is None:
        return " by one lane, which as many share as the cluster has places for, from when each has loaded the model"
    each = "{:.2f} hours ({:.2f} to {:.2f})".format(*(one / lanes for one in hours))
    return f" by one lane, {each} by {lanes} from when each has loaded the model"


def _title(summary: Summary) -> str:
    parts = [f"{summary.ended} of {summary.rows} rows" if not summary.complete else f"{summary.rows} rows"]
    if summary.rendered:
        parts.append(f"{summary.rendered} {summary.made} at {summary.pictures_a_minute:g} a minute")
    else:
        parts.append("nothing to render")
    if summary.kept:
        parts.append(f"{summary.kept} kept as they were")
    return ", ".join([*parts, f"{summary.seconds:.0f} s"])

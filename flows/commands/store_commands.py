"""`packshot takedown`, `prune` and `rebuild`: a store is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from flows.commands.answers import BY, IDS, NOTE, end_answered, user
from flows.commands.options import JSON, STORE
from flows.commands.output import say, show_json, terminal
from tasks.errors import RequestError
from tasks.outcome import Retry

app = typer.Typer()


@app.command()
def takedown(
    ids: IDS,
    store: STORE,
    until_approved: Annotated[
        bool, typer.Option("--until-approved", help="Until somebody approves it: packshot review approve.")
    ] = False,
    by: BY = None,
    note: NOTE = "",
) -> None:
    """Withdraw what is published of rows, at once: for good, or until somebody approves it."""
    from tasks.review.decide import take_down

    by = user() if by is None else by
    answered = take_down(store, ids, until_approved=until_approved, by=by, note=note)
    end_answered(answered, "hold" if until_approved else "reject")


@app.command()
def prune(
    store: STORE,
    older_than: Annotated[float, typer.Option(min=0, max=36500, help="Days that an object must have been there.")] = 30,
    status: Annotated[
        list[Retry] | None, typer.Option(help="Delete the masters of rows, too, that ended so.", show_default=False)
    ] = None,
    strike: Annotated[
        str | None, typer.Option(metavar="NAME", help="Strike the process of this name that is dead; prune nothing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    json: JSON = False,
) -> None:
    """Delete what nothing refers to any more: masters, source pictures, runs, and publications that nobody names."""
    if strike is not None:
        strike_from(store, strike, dry_run=dry_run)
    else:
        prune_store(store, older_than, status or [], dry_run=dry_run, as_json=json)


def strike_from(address: str, name: str, *, dry_run: bool) -> None:
    """Strike a process that a person knows to be dead, and prune nothing.

    Raises:
        RequestError: if nobody of that name is there, or it is known to live.
    """
    from tasks.maintenance.prune import strike
    from tasks.stores.opening import open_store

    if dry_run:
        raise RequestError("--strike changes the catalogue's state: leave out --dry-run.")
    struck = strike(open_store(address), name)
    say(terminal, f"{struck} is struck. Should it live after all, it begins what it does anew.")


def prune_store(address: str, days: float, statuses: list[Retry], *, dry_run: bool, as_json: bool) -> None:
    """Prune a store of what has been there for so many days, or say what that would delete."""
    from flows.views.pruned_objects import document, show_pruned
    from tasks.maintenance.prune import prune
    from tasks.stores.opening import open_store

    pruned = prune(open_store(address), kept_for=timedelta(days=days), statuses=frozenset(statuses), dry_run=dry_run)
    if as_json:
        show_json(document(pruned, dry_run=dry_run))
    else:
        show_pruned(terminal, pruned, dry_run=dry_run)


@app.command()
def rebuild(store: STORE) -> None:
    """Write the catalogue anew from the ledgers of all runs and what people decided, where it is gone or damaged."""
    from tasks.maintenance.rebuild import rebuild
    from tasks.stores.opening import open_store

    rebuilt = rebuild(open_store(store))
    runs = "1 run" if rebuilt.runs == 1 else f"{rebuilt.runs} runs"
    say(terminal, f"The catalogue has {rebuilt.rows} rows; {rebuilt.added} of them came back from {runs}.")
    if rebuilt.removed:
        say(terminal, f"{rebuilt.removed} published objects that no row named were deleted.")

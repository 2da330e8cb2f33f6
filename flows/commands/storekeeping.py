"""What `packshot prune` and `packshot rebuild` do at a terminal, and what they say there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tasks.errors import RequestError
from tasks.maintenance.prune import Pruned, prune, strike
from tasks.maintenance.rebuild import rebuild
from tasks.outcome import Retry
from tasks.stores.opening import open_store
from tasks.stores.store import Listed

KINDS = {
    "masters": "that no row has any more",
    "sources": "pictures that manifests held, of runs that have ended",
    "runs": "whose outcomes no row has any more",
    "publications": "that nobody names",
}


def prune_store(
    console: Console,
    address: str,
    *,
    older_than: float,
    statuses: Sequence[Retry],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Prune a store, or say what that would delete."""
    pruned = prune(
        open_store(address), kept_for=timedelta(days=older_than), statuses=frozenset(statuses), dry_run=dry_run
    )
    if as_json:
        typer.echo(json.dumps(document(pruned, dry_run=dry_run), indent=2))
    else:
        show_pruned(console, pruned, dry_run=dry_run)


def strike_from(console: Console, address: str, name: str, *, dry_run: bool) -> None:
    """Strike a process that a person knows to be dead, and prune nothing.

    Raises:
        RequestError: if nobody of that name is there, or it is known to live.
    """
    if dry_run:
        raise RequestError("--strike changes the catalogue's state: leave out --dry-run.")
    struck = strike(open_store(address), name)
    say(console, f"{struck} is struck. Should it live after all, it begins what it does anew.")


def document(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """What was deleted, or would be, for machines."""
    kinds = {kind: [one.path for one in getattr(pruned, kind)] for kind in KINDS}
    return {"dry_run": dry_run, "bytes": sum(_size(getattr(pruned, kind)) for kind in KINDS), **kinds}


def show_pruned(console: Console, pruned: Pruned, *, dry_run: bool) -> None:
    """One table: how many objects of each kind, and how much room they took."""
    objects = [one for kind in KINDS for one in getattr(pruned, kind)]
    if not objects:
        say(console, "There is nothing to delete.")
        return
    title = "Dry run: nothing was deleted" if dry_run else "Deleted"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("objects", justify="right")
    table.add_column("room", justify="right")
    table.add_column("of" if not dry_run else "would be deleted of")
    for kind, which in KINDS.items():
        if some := getattr(pruned, kind):
            table.add_row(str(len(some)), decimal(_size(some)), f"{kind} {which}")
    console.print(table)


def rebuild_store(console: Console, address: str) -> None:
    """Write a store's catalogue anew, and say what came back."""
    rebuilt = rebuild(open_store(address))
    runs = "1 run" if rebuilt.runs == 1 else f"{rebuilt.runs} runs"
    say(console, f"The catalogue has {rebuilt.rows} rows; {rebuilt.added} of them came back from {runs}.")
    if rebuilt.removed:
        say(console, f"{rebuilt.removed} published objects that no row named were deleted.")


def say(console: Console, sentence: str) -> None:
    """Print a sentence as it is."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _size(objects: Iterable[Listed]) -> int:
    return sum(one.size for one in objects)

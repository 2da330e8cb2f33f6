"""How `packshot prune` says what it deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tasks.maintenance.prune import Pruned
from tasks.stores.store import ListedObject

KINDS = {
    "masters": "that no row has any more",
    "sources": "pictures that manifests held, of runs that have ended",
    "runs": "whose outcomes no row has any more",
    "publications": "that nobody names",
}


def document(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """Return what was deleted, or would be, for machines."""
    kinds = {kind: [one.path for one in getattr(pruned, kind)] for kind in KINDS}
    return {"dry_run": dry_run, "bytes": sum(_size(getattr(pruned, kind)) for kind in KINDS), **kinds}


def show_pruned(console: Console, pruned: Pruned, *, dry_run: bool) -> None:
    """Show one table: how many objects of each kind, and how much room they took."""
    objects = [one for kind in KINDS for one in getattr(pruned, kind)]
    if not objects:
        console.print("There is nothing to delete.")
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


def _size(objects: Iterable[ListedObject]) -> int:
    return sum(one.size for one in objects)

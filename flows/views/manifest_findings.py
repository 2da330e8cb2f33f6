"""How `packshot manifest check` says what would fail of a manifest, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.manifests.suspicions import listed
from tasks.runs.manifest_check import ManifestChecked


def document(checked: ManifestChecked) -> Mapping[str, Any]:
    """Return a check for machines."""
    return {
        "manifest": checked.manifest,
        "kind": checked.kind,
        "model": checked.model,
        "files": checked.files,
        "rows": checked.rows,
        "columns": {"read": checked.read, "carried": checked.carried},
        "would_fail": checked.would_fail,
        "failures": [vars(one) for one in checked.failing],
        "warnings": [
            *({"sentence": sentence, "rows": None, "ids": []} for sentence in checked.warnings),
            *({"sentence": one.sentence, "rows": one.rows, "ids": one.ids} for one in checked.suspicions),
        ],
    }


def show_checked(console: Console, checked: ManifestChecked) -> None:
    """Show what is read and carried, a table of what would fail, and what looks wrong."""
    files = "1 file" if checked.files == 1 else f"{checked.files} files"
    rows = "1 row" if checked.rows == 1 else f"{checked.rows:,} rows"
    title = f"[bold]{escape(checked.manifest)}[/]: {rows} in {files}, to {checked.kind} with {escape(checked.model)}"
    console.print(title, highlight=False, soft_wrap=True)
    for name, columns in (("reads", checked.read), ("carries", checked.carried)):
        console.print(f"{name:10} {escape(_listed(columns))}", highlight=False, soft_wrap=True)
    if checked.failing:
        table = Table(pad_edge=False, box=None, title=" ", title_justify="left")
        table.add_column("would fail")
        table.add_column("rows", justify="right")
        table.add_column("for example", overflow="fold")
        table.add_column("ids", overflow="fold")
        for one in checked.failing:
            table.add_row(
                f"[magenta]{one.reason}[/]", f"{one.rows:,}", escape(one.example), escape(listed(one.ids, one.rows))
            )
        console.print(table)
        console.print()
    for sentence in (*checked.warnings, *(one.sentence for one in checked.suspicions)):
        console.print(f"{'look at':10} {escape(sentence)}", style="yellow", highlight=False, soft_wrap=True)
    good = checked.rows - checked.would_fail
    if checked.would_fail:
        bad = "1 row" if checked.would_fail == 1 else f"{checked.would_fail:,} rows"
        console.print(f"[bold magenta]{bad} would fail[/], {good:,} would not.", highlight=False)
    else:
        console.print("[bold green]No row would fail[/] for what the manifest says of it.", highlight=False)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(name if name.isprintable() and name.strip() == name else repr(name) for name in columns) or "none"

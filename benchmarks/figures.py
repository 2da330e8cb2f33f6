"""Figures of a benchmark without a model, as a table on the terminal and as JSON; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show_figures(title: str, figures: Sequence[Mapping[str, float | str]], file: Path | None) -> None:
    """Print a row for each of the figures, whose names are the columns, and write them to `file` if one is given."""
    table = Table(title=title)
    for name in figures[0]:
        table.add_column(name, justify="right")
    for row in figures:
        table.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in row.values()))
    Console().print(table)
    if file:
        file.write_text(json.dumps(figures, indent=2) + "\n")

"""How rows that wait for a person are shown, and what became of those that a person answered for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from safety.fidelity.measure_names import PREFIX
from tasks.ledger.decision import DONE, Answer
from tasks.review.decide import Answered, Waiting

SHOWN = 160  # characters of a prompt


def document(rows: Iterable[Waiting]) -> list[dict[str, Any]]:
    """Return what waits, for machines."""
    return [asdict(row) for row in rows]


def show_waiting(console: Console, rows: Sequence[Waiting], store: str) -> None:
    """Show what waits: a block of lines a row, because prompts and addresses are long."""
    if not rows:
        console.print("Nothing waits for review.")
        return
    for row in rows:
        console.print(Text.assemble((row.id, "bold yellow"), f"  {_what(row)}"), soft_wrap=True)
        concepts = {name: over for name, over in row.concepts.items() if not name.startswith(PREFIX)}
        near = ", ".join(f"{name.replace('_', ' ')} by {over:.3f}" for name, over in concepts.items())
        why = row.message if len(concepts) < len(row.concepts) else ""
        text = row.text if len(row.text) <= SHOWN else f"{row.text[:SHOWN]} …"
        pictures = zip(("source", *("reference" for _ in row.source_uris[1:])), row.source_uris, strict=False)
        for name, value in (("over", near), ("why", why), ("prompt", text), *pictures, ("picture", row.uri)):
            if value:
                console.print(Text.assemble((f"  {name:10}", "dim"), value), soft_wrap=True)
    console.print()
    one = rows[0].id
    console.print(
        Text(
            f"{len(rows)} {'row waits' if len(rows) == 1 else 'rows wait'} for review. To answer:\n"
            f"  packshot review approve {one} --store {store}\n"
            f"  packshot review reject {one} --store {store} --note 'why'\n"
            "To see them on one page, edits beside their sources:\n"
            f"  packshot report --store {store}"
        ),
        soft_wrap=True,
    )


def _what(row: Waiting) -> str:
    if row.of == "picture":
        return "its layers wait" if row.layer_uris else "its picture waits"
    return "its prompt waits, nothing was made yet"


def show_answered(console: Console, answered: Iterable[Answered], answer: Answer) -> None:
    """Show what became of each row."""
    for one in answered:
        style, word = ("green", DONE[answer]) if one.holds else ("red", f"not {DONE[answer]}")
        said = Text.assemble((one.id, "bold"), "  ", (word, style), f"  {one.sentence}")
        console.print(said, soft_wrap=True)

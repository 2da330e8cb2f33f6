"""`packshot review`: what waits for a person, and a person's answers."""

from __future__ import annotations

from typing import Literal, NoReturn

import typer

from flows.commands.answers import BY, IDS, NOTE, end_answered, user
from flows.commands.options import JSON, STORE
from flows.commands.output import show_json, terminal

app = typer.Typer(no_args_is_help=True, help="What waits for a person, and a person's answers.")


@app.command(name="list")
def list_(store: STORE, json: JSON = False) -> None:
    """Show what waits for a person: which concept asks, how near it is, and where the picture lies."""
    from flows.views.review_rows import document, show_waiting
    from tasks.review.decide import waiting

    rows = waiting(store)
    if json:
        show_json(document(rows))
    else:
        show_waiting(terminal, rows, store)


@app.command()
def approve(ids: IDS, store: STORE, by: BY = None, note: NOTE = "") -> None:
    """Publish pictures that wait, and have prompts that wait drawn by the next run."""
    _decide(ids, "approve", store, by, note)


@app.command()
def reject(ids: IDS, store: STORE, by: BY = None, note: NOTE = "") -> None:
    """Refuse pictures and prompts that wait, for good; or take an approval back."""
    _decide(ids, "reject", store, by, note)


def _decide(ids: list[str], answer: Literal["approve", "reject"], store: str, by: str | None, note: str) -> NoReturn:
    from tasks.review.decide import decide

    end_answered(decide(store, ids, answer, by=user() if by is None else by, note=note), answer)

"""What a person answers about rows: the options of it, who it is that answers, and how such a command ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.commands.exits import OK
from flows.commands.output import terminal
from tasks.errors import RequestError

if TYPE_CHECKING:
    from tasks.ledger.decision import Answer
    from tasks.review.decide import Answered

NOT_DECIDED = 1  # an answer of somebody else's stands

IDS = Annotated[list[str], typer.Argument(help="Ids of rows, as the catalogue has them.")]
BY = Annotated[
    str | None, typer.Option(help="Who decides: the name that is written down. [default: the system's user]")
]
NOTE = Annotated[str, typer.Option(help="Why: it is written down, too.", show_default=False)]


def user() -> str:
    """Return the name of the system's user.

    Raises:
        RequestError: if there is none.
    """
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise RequestError("The system doesn't say who you are: give your name with --by.") from None


def end_answered(answered: Sequence[Answered], answer: Answer) -> NoReturn:
    """Say what became of each row, and end by whether every answer counts."""
    from flows.views.review_rows import show_answered

    show_answered(terminal, answered, answer)
    raise SystemExit(OK if all(one.holds for one in answered) else NOT_DECIDED)

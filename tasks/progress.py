"""Who is told how a run gets on: the terminal, or a Prefect artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar

from tasks.outcome import Outcome

Listener = Callable[[Sequence[Outcome]], None]

listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
"""Told of outcomes as they happen, from whatever thread they happen in."""

started: ContextVar[Callable[[int, int], None] | None] = ContextVar("started", default=None)
"""Told once, when the plan is known: how many rows there are to do, and how many of them have ended already."""


remarked: ContextVar[Callable[[str], None] | None] = ContextVar("remarked", default=None)
"""Told what a person would wonder about while a run goes on, in sentences."""


def remark(sentence: str | None) -> None:
    """Tell a sentence, if there is one, to whoever waits for such."""
    telling = remarked.get()
    if telling is not None and sentence is not None:
        telling(sentence)


def tell_start(to_do: int, ended: int) -> None:
    """Tell whoever waits for the plan."""
    waiting = started.get()
    if waiting is not None:
        waiting(to_do, ended)


def tell(outcomes: Sequence[Outcome]) -> None:
    """Tell whoever listens."""
    listening = listener.get()
    if listening is not None and outcomes:
        listening(outcomes)

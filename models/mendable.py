"""Errors that a person can mend: what was seen and what to do about it, which are one sentence where they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self


class Mendable(Exception):  # noqa: N818  as those that people know by their own names
    """Something that a person can mend; its message is one sentence.

    error = Mendable("The box is empty", "fill it, or take another.")
    str(error)  # "The box is empty: fill it, or take another."
    """

    joined: ClassVar[str] = ": "  # what stands between the two, unless an error says otherwise

    def __init__(self, what: str, remedy: str | None = None, *, joined: str | None = None) -> None:
        """`what` was seen, and where; `remedy` says what to do and ends the sentence. Without it, `what` does."""
        between = self.joined if joined is None else joined
        super().__init__(what if remedy is None else f"{what}{between}{remedy}")
        self.what, self.remedy, self.between = what, remedy, between

    def reworded(self, reword: Callable[[str], str]) -> Self:
        """Return the same error in other words, such as with another name for a thing."""
        remedy = None if self.remedy is None else reword(self.remedy)
        return type(self)(reword(self.what), remedy, joined=self.between)

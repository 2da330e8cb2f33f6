"""What is wrong with a value of a row: in which column, of which kind, and in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RowFault(StrEnum):
    """The kinds of what may be wrong with a value."""

    EMPTY = "empty"
    ENCODING = "encoding"  # no UTF-8
    NO_TEXT = "no text"  # it can't be written as text
    TOO_LONG = "too long"
    CHARACTERS = "characters"  # an id has others than it may have, or too many
    NO_NUMBER = "no number"  # or no whole one where it should be
    TOO_LARGE = "too large"  # for a number of 64 bits
    OUT_OF_RANGE = "out of range"
    ASPECT = "aspect"  # of a picture whose aspect its results can't have


@dataclass(frozen=True)
class Problem:
    """What is wrong with one value of a row."""

    column: str
    fault: RowFault
    sentence: str


class RowError(ValueError):
    """A row has a value that it can't have. The message is the problem's sentence."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem

"""How large the single pictures of a row are, and how many of them it wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.errors import RequestError
from tasks.manifests.row import Row, given_or, whole
from tasks.manifests.row_error import Problem, RowError, RowFault

SMALLEST, LARGEST = 64, 4096  # pixels a side
MAX_VARIANTS = 64


def variants_of(values: Mapping[str, Any], default: int) -> int:
    """Return how many pictures a row wants.

    Raises:
        RowError: with a sentence, if they are too many.
    """
    return whole(values, "variants", default, range(1, MAX_VARIANTS + 1))


def varied(row: Row, variants: int) -> Iterator[Row]:
    """Give the rows that one manifest row asks for: itself, or as many as it wants variants, each with its seed."""
    if variants == 1:
        yield row
        return
    for variant in range(variants):
        yield replace(row, id=f"{row.id}.v{variant + 1}", seed=(row.seed + variant) % 2**63)


def check_sides(width: int | None, height: int | None, multiple: int) -> None:
    """Refuse a job's width and height that no row could be drawn at.

    Raises:
        RequestError: with a sentence.
    """
    if (width or 0) % multiple or (height or 0) % multiple:
        raise RequestError(f"The job is wrong: width and height: this checkpoint takes multiples of {multiple}.")


def side_of(values: Mapping[str, Any], name: str, default: int, multiple: int) -> int:
    """Return a row's width or height in pixels.

    Raises:
        RowError: with a sentence, if it can't be drawn at.
    """
    value = given_or(values.get(name), default)
    if value % multiple or not SMALLEST <= value <= LARGEST:
        sentence = f"The {name} is {value}; it should be a multiple of {multiple} between {SMALLEST} and {LARGEST}."
        raise RowError(Problem(name, RowFault.OUT_OF_RANGE, sentence))
    return int(value)

"""Rows that are surely right, found a column at a time: a million rows are checked in seconds.

What isn't surely right is read as a run reads it, row by row, and may be right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.manifests.known_columns import PROBLEM, texts
from tasks.manifests.manifest import ID
from tasks.manifests.row import MAX_PROMPT_CHARACTERS
from tasks.rows.text_template import TextTemplate

WRITTEN = r"[\pL\pN]"  # a text with a letter or digit surely isn't empty
Bounds = Mapping[str, tuple[int, int, int]]  # the least, the most, and what it must be a multiple of


def sound_numbers(batch: pa.RecordBatch, bounds: Bounds) -> pa.Array:
    """Return a mask of the rows whose ids and numbers are surely right; those without bounds aren't looked at."""
    sound = pc.and_(matches(batch.column("id"), rf"\A(?:{ID.pattern})\z"), pc.is_null(batch.column(PROBLEM)))
    for name, (least, most, multiple) in {**bounds, "seed": (0, 2**63 - 1, 1), "guidance": (0, 50, 1)}.items():
        if name not in batch.schema.names:
            continue
        column = batch.column(name)
        fits = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))
        if multiple > 1:
            fits = pc.and_(fits, pc.equal(pc.multiply(pc.divide(column, multiple), multiple), column))
        sound = pc.and_(sound, pc.fill_null(fits, True))
    return sound


def sound_texts(batch: pa.RecordBatch, name: str, template: TextTemplate | None) -> pa.Array:
    """Return a mask of the rows that surely have a text of a right length in a column, or from a template."""
    there = name in batch.schema.names
    text = batch.column(name) if there else pa.nulls(batch.num_rows, pa.large_string())
    written = pc.and_(matches(text, WRITTEN), short(text))
    if template is not None:
        read = [texts(column, batch.column(column)).values for column in template.columns]
        written = pc.or_(written, _filled(text, read, sum(len(literal) for literal, *_ in template.parts)))
    return written


def _filled(text: pa.Array, read: Sequence[pa.Array], literal: int) -> pa.Array:
    """Return a mask of the rows without a text that the template surely fills."""
    filled = pc.or_(pc.is_null(text), pc.fill_null(pc.equal(text, ""), False))
    length = pa.repeat(pa.scalar(literal, pa.int64()), len(text))
    for column in read:
        filled = pc.and_(filled, matches(column, WRITTEN))
        length = pc.add(length, pc.fill_null(pc.utf8_length(column).cast(pa.int64()), 0))
    return pc.and_(filled, pc.less_equal(length, MAX_PROMPT_CHARACTERS))


def matches(column: pa.Array, pattern: str) -> pa.Array:
    """Return a mask of the texts in which there is a pattern."""
    return pc.fill_null(pc.match_substring_regex(column, pattern), False)


def short(column: pa.Array) -> pa.Array:
    """Return a mask of the texts that a model would read to their end; nothing is short, too."""
    return pc.fill_null(pc.less_equal(pc.utf8_length(column), MAX_PROMPT_CHARACTERS), True)


def unsound(batch: pa.RecordBatch, sound: pa.Array) -> pa.RecordBatch:
    """Return the rows of a batch that aren't surely right."""
    return batch.filter(pc.invert(sound))

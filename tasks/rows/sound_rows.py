"""Rows that are surely right, found a column at a time: a million rows are checked in seconds.

What isn't surely right is read as a run reads it, row by row, and may be right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.job import MOST_LAYERS
from tasks.manifests.known_columns import PROBLEM, texts
from tasks.manifests.manifest import ID
from tasks.manifests.row import MAX_PROMPT_CHARACTERS, MAX_STEPS
from tasks.rows.picture_rows import RESOLUTIONS, LayerDefaults
from tasks.rows.prompt_rows import LARGEST, MAX_VARIANTS, SMALLEST, Defaults

WRITTEN = r"[\pL\pN]"  # a text with a letter or digit surely isn't empty
Bounds = Mapping[str, tuple[int, int, int]]  # the least, the most, and what it must be a multiple of


def sound_prompts(batch: pa.RecordBatch, defaults: Defaults) -> pa.Array:
    """Return a mask of the rows of a manifest of prompts that are surely right, but perhaps for their profile."""
    bounds = {
        "width": (SMALLEST, LARGEST, defaults.size_multiple),
        "height": (SMALLEST, LARGEST, defaults.size_multiple),
        "steps": (defaults.fewest_steps, MAX_STEPS, 1),
        "variants": (1, MAX_VARIANTS, 1),
    }
    names = batch.schema.names
    prompt = batch.column("prompt") if "prompt" in names else pa.nulls(batch.num_rows, pa.large_string())
    written = pc.and_(_matches(prompt, WRITTEN), _short(prompt))
    if defaults.template is not None:
        read = [texts(name, batch.column(name)).values for name in defaults.template.columns]
        written = pc.or_(written, _filled(prompt, read, sum(len(text) for text, *_ in defaults.template.parts)))
    return pc.and_(written, _sound(batch, bounds))


def sound_pictures(batch: pa.RecordBatch, defaults: LayerDefaults) -> pa.Array:
    """Return a mask of the rows of a manifest of pictures that are surely right, but perhaps for those and profiles."""
    bounds = {
        "layers": (1, MOST_LAYERS, 1),
        "resolution": (RESOLUTIONS[0], RESOLUTIONS[-1], 1),
        "steps": (defaults.fewest_steps, MAX_STEPS, 1),
    }
    sound = _sound(batch, bounds)
    return pc.and_(sound, _short(batch.column("caption"))) if "caption" in batch.schema.names else sound


def _sound(batch: pa.RecordBatch, bounds: Bounds) -> pa.Array:
    sound = pc.and_(_matches(batch.column("id"), rf"\A(?:{ID.pattern})\z"), pc.is_null(batch.column(PROBLEM)))
    for name, (least, most, multiple) in {**bounds, "seed": (0, 2**63 - 1, 1), "guidance": (0, 50, 1)}.items():
        if name not in batch.schema.names:
            continue
        column = batch.column(name)
        fits = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))
        if multiple > 1:
            fits = pc.and_(fits, pc.equal(pc.multiply(pc.divide(column, multiple), multiple), column))
        sound = pc.and_(sound, pc.fill_null(fits, True))
    return sound


def _matches(column: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(column, pattern), False)


def _short(column: pa.Array) -> pa.Array:
    return pc.fill_null(pc.less_equal(pc.utf8_length(column), MAX_PROMPT_CHARACTERS), True)


def _filled(prompt: pa.Array, read: Sequence[pa.Array], literal: int) -> pa.Array:
    """A mask of the rows without a prompt that the template surely fills."""
    filled = pc.or_(pc.is_null(prompt), pc.fill_null(pc.equal(prompt, ""), False))
    length = pa.repeat(pa.scalar(literal, pa.int64()), len(prompt))
    for column in read:
        filled = pc.and_(filled, _matches(column, WRITTEN))
        length = pc.add(length, pc.fill_null(pc.utf8_length(column).cast(pa.int64()), 0))
    return pc.and_(filled, pc.less_equal(length, MAX_PROMPT_CHARACTERS))

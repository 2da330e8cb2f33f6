"""Duplicates: rows whose picture shows the same as that of an earlier row, where their profile allows no such.

A lane can't tell, because it sees its own shards alone, in whatever order. So this is settled when the rows of a run
are put into the catalogue: the row that comes first in the manifest keeps its picture. That follows from the manifest,
the ledgers and the profiles, whichever shard ended first, and every run settles it anew: a row whose original has gone,
or looks different now, is done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safety.pictures.likeness import FEWEST_BITS_APART, LEAST_COLOUR_APART, difference, repeats
from safety.verdict import Reason
from tasks.outcome import CATALOGUE_SCHEMA, Status

NEEDED = ["id", "status", "reason", "message", "finished_at", "fingerprint", "changed_in"]
CHANGED = ["status", "reason", "message", "finished_at", "changed_in"]


def settle_duplicates(mine: pa.Table, unlike_others: Iterable[str]) -> pa.Table:
    """Return the catalogue's rows of a run, in the order of its plan, with duplicates rejected and former ones done.

    `unlike_others` are the names of the profiles that allow no picture like another one's. Rows that change have no
    version.
    """
    was = pc.fill_null(pc.equal(mine.column("reason"), Reason.DUPLICATE), False).to_numpy()
    unlike_others = list(unlike_others)
    if not unlike_others and not was.any():
        return mine
    is_done = pc.equal(mine.column("status"), Status.DONE).to_numpy()
    is_told = pc.is_valid(mine.column("fingerprint")).to_numpy()
    places = np.flatnonzero(is_told & (is_done | was))
    asks = pc.is_in(mine.column("profile"), value_set=pa.array(unlike_others, pa.string())).to_numpy()
    found = repeats(mine.column("fingerprint").take(pa.array(places)).to_pylist())
    # A row that may look like others is still the original of those that mayn't look like it.
    originals = {
        int(place): int(places[first]) if first is not None and asks[place] else None
        for place, first in zip(places, found, strict=True)
        if was[place] or (first is not None and asks[place])
    }
    return _with(mine, originals)


def _with(mine: pa.Table, originals: Mapping[int, int | None]) -> pa.Table:
    """Return the rows with these ones, by their place, as duplicates of others, or as duplicates no more."""
    changes = {}
    for place, first in originals.items():
        row = _row(mine, place)
        settled = _settled(row, None if first is None else _row(mine, first))
        if settled is not row:
            changes[place] = settled
    order = sorted(changes)
    mask = np.zeros(mine.num_rows, bool)
    mask[order] = True
    for name in CHANGED if changes else []:
        new = pa.array([changes[place][name] for place in order], CATALOGUE_SCHEMA.field(name).type)
        column = pc.replace_with_mask(mine.column(name).combine_chunks(), pa.array(mask), new)
        mine = mine.set_column(mine.schema.get_field_index(name), CATALOGUE_SCHEMA.field(name), column)
    return mine


def _settled(row: dict[str, Any], original: dict[str, Any] | None) -> dict[str, Any]:
    """Return a row that repeats another, or no more; the same one, where it says so already."""
    now = {**row, "finished_at": datetime.now(UTC), "changed_in": None}
    if original is None:
        return {**now, "status": Status.DONE, "reason": None, "message": None}
    message = _sentence(row, original)
    if row["message"] == message:
        return row
    return {**now, "status": Status.REJECTED, "reason": Reason.DUPLICATE, "message": message}


def _row(mine: pa.Table, place: int) -> dict[str, Any]:
    (row,) = mine.select(NEEDED).slice(place, 1).to_pylist()
    return dict(row)


def _sentence(row: dict[str, Any], original: dict[str, Any]) -> str:
    bits, colour = difference(row["fingerprint"], original["fingerprint"])
    return (
        f"The picture shows the same as that of the row {original['id']}, which comes first in the manifest: {bits} of "
        f"64 bits differ in structure, and colours by {colour} of 255. Two pictures differ in {FEWEST_BITS_APART} bits "
        f"or more, or by {LEAST_COLOUR_APART} or more."
    )

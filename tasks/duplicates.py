"""Duplicates: rows whose picture shows the same as that of an earlier row, where their profile allows no such.

A lane can't tell, because it sees its own shards alone, in whatever order. So this is settled when the rows of a run
are put into the catalogue: the row that comes first in the manifest keeps its picture. That follows from the manifest,
the ledgers and the profiles, whichever shard ended first, and every run settles it anew: a row whose original has gone,
or looks different now, has its picture published again.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safety.likeness import FEWEST_BITS_APART, LEAST_COLOUR_APART, difference, repeats
from safety.profile import Profile
from safety.verdict import Reason
from tasks.outcome import SCHEMA, Status
from tasks.shelf import QUARANTINE, Shelf

MOVING_THREADS = 16
NEEDED = ["id", "key", "status", "reason", "message", "uri", "finished_at", "fingerprint"]
CHANGED = ["status", "reason", "message", "uri", "finished_at"]


@dataclass
class Duplicates:
    """Tells the duplicates among the rows of a run, and moves their pictures."""

    profiles: Mapping[str, Profile]
    shelf: Shelf[Any]
    keys: set[str] = field(default_factory=set)  # of rows that are duplicates, or were, once it is settled

    def settle(self, mine: pa.Table) -> pa.Table:
        """The catalogue's rows of a run, in the order of its plan, with duplicates rejected and former ones done.

        Nothing is done where no profile asks for it.
        """
        asking = [name for name, profile in self.profiles.items() if profile.unlike_others]
        was = pc.fill_null(pc.equal(mine.column("reason"), Reason.DUPLICATE), False).to_numpy()
        if not asking and not was.any():
            return mine
        is_done = pc.equal(mine.column("status"), Status.DONE).to_numpy()
        is_told = pc.is_valid(mine.column("fingerprint")).to_numpy()
        places = np.flatnonzero(is_told & (is_done | was))
        asks = pc.is_in(mine.column("profile"), value_set=pa.array(asking, pa.string())).to_numpy()
        found = repeats(mine.column("fingerprint").take(pa.array(places)).to_pylist())
        # A row that may look like others is still the original of those that mayn't look like it.
        originals = {
            int(place): int(places[first]) if first is not None and asks[place] else None
            for place, first in zip(places, found, strict=True)
            if was[place] or (first is not None and asks[place])
        }
        self.keys = set(mine.column("key").take(pa.array([*originals], pa.int64())).to_pylist())
        return self._with(mine, originals)

    def _with(self, mine: pa.Table, originals: Mapping[int, int | None]) -> pa.Table:
        """The rows with these ones, by their place, as duplicates of others, or as duplicates no more."""
        rows = {place: _row(mine, place) for place in originals}
        with ThreadPoolExecutor(MOVING_THREADS) as pool:
            settled = pool.map(
                lambda place: self._settled(
                    rows[place], None if (first := originals[place]) is None else _row(mine, first)
                ),
                originals,
            )
            changes = {place: row for place, row in zip(originals, settled, strict=True) if row != rows[place]}
        order = sorted(changes)
        mask = np.zeros(mine.num_rows, bool)
        mask[order] = True
        for name in CHANGED if changes else []:
            new = pa.array([changes[place][name] for place in order], SCHEMA.field(name).type)
            column = pc.replace_with_mask(mine.column(name).combine_chunks(), pa.array(mask), new)
            mine = mine.set_column(mine.schema.get_field_index(name), SCHEMA.field(name), column)
        return mine

    def _settled(self, row: dict[str, Any], original: dict[str, Any] | None) -> dict[str, Any]:
        """A row that repeats another, or no more; as it was, where it says so already or its picture has gone."""
        now = {**row, "finished_at": datetime.now(UTC)}
        if original is not None:
            message = _sentence(row, original)
            if row["message"] == message:
                return row
            return {
                **now,
                "status": Status.REJECTED,
                "reason": Reason.DUPLICATE,
                "message": message,
                "uri": self._put(QUARANTINE, row),
            }
        uri = self._put(self.shelf.published, row)
        if uri is None:
            return row
        return {**now, "status": Status.DONE, "reason": None, "message": None, "uri": uri}

    def _put(self, place: str, row: dict[str, Any]) -> str | None:
        """Put a row's picture there, from where it is; its address, None where there is no picture any more."""
        found = self.shelf.find(row["key"])
        if found is None:
            return None
        try:
            contents = self.shelf.read(found, row["key"])
        except ValueError:  # removed since
            return None
        return str(self.shelf.put(place, row["key"], contents)["uri"])


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

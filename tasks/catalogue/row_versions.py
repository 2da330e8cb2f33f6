"""Merge: which of two outcomes of a row is newer, without a clock.

A row keeps the catalogue's version that its plan was made from. Of two outcomes the one whose plan is newer wins; at
equality the later commit. The columns that a manifest carries go along with the winner.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.ledger.kept import kept
from tasks.ledger.plan import CARRIED
from tasks.manifests.column_types import stacked
from tasks.outcome import CATALOGUE_SCHEMA, SCHEMA


@dataclass(frozen=True)
class Merged:
    """A catalogue's rows beside those of one run."""

    others: pa.Table  # rows that the run's plan isn't about
    newer: pa.Table  # rows that it is about, with an outcome of a newer plan
    mine: pa.Table  # the rest of those that it is about, in plan order

    def whole(self) -> pa.Table:
        """Return all rows as one table, the run's last and in plan order."""
        return stacked([self.others, self.newer, self.mine])


def merge(before: pa.Table, plan: pa.Table, outcomes: pa.Table, *, run: str, planned_from: int) -> Merged:
    """Put a run's outcomes beside the rows of a catalogue, and what its manifest carries beside every row of its plan.

    Args:
        before: the catalogue's rows.
        plan: every row of the run's manifest.
        outcomes: the run's ledgers.
        run: its name.
        planned_from: the catalogue's version that its plan was made from.

    Rows that have an outcome of this run now have no `changed_in`.
    """
    ids = plan.column("id").combine_chunks()
    of_plan = pc.is_in(before.column("id"), value_set=ids)
    is_newer = pc.and_(of_plan, pc.fill_null(pc.greater(before.column("planned_from"), planned_from), False))
    others, newer = beside(before, plan), before.filter(is_newer)
    known = before.filter(pc.and_not(of_plan, is_newer)).select(CATALOGUE_SCHEMA.names).cast(CATALOGUE_SCHEMA)
    # What this run has committed before stands: it may have been decided on since.
    settled = known.filter(pc.equal(known.column("run"), run)).column("id").combine_chunks()
    ended = kept(before, outcomes.filter(pc.invert(pc.is_in(outcomes.column("id"), value_set=settled))))
    ended = _versioned(ended, planned_from=None, changed_in=None)
    candidates = pa.concat_tables([ended, known])  # an id is found at its first place
    places = pc.index_in(ids, value_set=candidates.column("id").combine_chunks())
    places = pc.if_else(pc.is_in(ids, value_set=newer.column("id").combine_chunks()), None, places)
    mine = candidates.take(places.drop_null())
    mine = _set(mine, "planned_from", pa.repeat(pa.scalar(planned_from, pa.int64()), mine.num_rows))
    carried = plan.filter(pc.is_valid(places)).select([n for n in plan.schema.names if n.startswith(CARRIED)])
    for name in carried.schema.names:
        mine = mine.append_column(
            carried.schema.field(name).with_name(name.removeprefix(CARRIED)), carried.column(name)
        )
    return Merged(others, newer, mine)


def beside(table: pa.Table, plan: pa.Table) -> pa.Table:
    """Return the rows of a catalogue that a plan isn't about."""
    return table.filter(pc.invert(pc.is_in(table.column("id"), value_set=plan.column("id").combine_chunks())))


def _versioned(outcomes: pa.Table, *, planned_from: int | None, changed_in: int | None) -> pa.Table:
    versions = {"planned_from": planned_from, "changed_in": changed_in}
    columns = [pa.repeat(pa.scalar(value, pa.int64()), outcomes.num_rows) for value in versions.values()]
    names = [*SCHEMA.names, *versions]
    return pa.Table.from_arrays([*outcomes.select(SCHEMA.names).columns, *columns], names=names).cast(CATALOGUE_SCHEMA)


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), values)

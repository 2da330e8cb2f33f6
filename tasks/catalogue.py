"""The catalogue: the newest outcome of every row, with the columns that the manifest carried. What a shop reads."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.kept import kept
from tasks.outcome import ADDED, SCHEMA, widened
from tasks.plan import CARRIED, Known
from tasks.request import RequestError
from tasks.store import Changed, Store

PATH = "catalog.parquet"
MERGE_TRIES = 20  # of runs that finish at the same moment


@dataclass(frozen=True)
class Catalogue:
    """A catalogue as it was read, and the version it had in the store."""

    table: pa.Table
    version: str | None

    def known(self, ids: Sequence[str]) -> list[Known | None]:
        """What is known of these rows; None for a row that the catalogue doesn't have."""
        places = pc.index_in(pa.array(ids, pa.string()), value_set=self.table.column("id").combine_chunks())
        columns = [self.table.column(name).take(places).to_pylist() for name in KNOWN_COLUMNS]
        texts = pc.coalesce(*(self.table.column(name).take(places) for name in ("caption", "prompt")))
        waits = pc.equal(self.table.column("reason").take(places), Reason.REVIEW)
        texts = pc.if_else(pc.fill_null(waits, False), texts, "")  # of all rows they would be much to carry
        return [
            None if place is None else Known(*values, text=said)  # type: ignore[misc]  # text isn't among the values
            for place, said, *values in zip(places.to_pylist(), texts.to_pylist(), *columns, strict=True)
        ]

    def part(self, plan: pa.Table) -> pa.Table:
        """The rows that a plan is about, in plan order."""
        places = pc.index_in(plan.column("id"), value_set=self.table.column("id").combine_chunks())
        return self.table.take(places.drop_null())

    def seconds_a_row(self) -> float | None:
        """Mean rendering time of a picture, from what is recorded; None when nothing was rendered yet."""
        seconds = self.table.column("seconds")
        mean = pc.mean(seconds.filter(pc.greater(seconds, 0))).as_py()
        return None if mean is None else float(mean)


KNOWN_COLUMNS = ("status", "key", "judged_by", "attempt", "retryable", "reason")


def read_catalogue(store: Store) -> Catalogue:
    """The store's catalogue; an empty one where there is none yet.

    Raises:
        RequestError: if `catalog.parquet` is there and isn't a catalogue.
    """
    found = store.read(PATH)
    if found is None:
        return Catalogue(SCHEMA.empty_table(), None)
    content, version = found
    try:
        table = pq.read_table(io.BytesIO(content))
        missing = set(SCHEMA.names) - set(table.schema.names) - set(ADDED)
    except pa.ArrowException as error:
        raise RequestError(f"{store.uri_of(PATH)} is not a Parquet file that can be read; move it away.") from error
    if missing:
        raise RequestError(f"{store.uri_of(PATH)} is not a packshot catalogue: it lacks the column {min(missing)!r}.")
    return Catalogue(widened(table), version)


def check_carried(catalogue: Catalogue, carried: pa.Schema, manifest: str) -> None:
    """Refuse a manifest whose carried columns can't stand in one table with the catalogue's.

    Raises:
        RequestError: naming the column and both types.
    """
    for field in carried:
        if field.name in catalogue.table.schema.names:
            before = catalogue.table.schema.field(field.name).type
            try:
                pa.unify_schemas(
                    [pa.schema([pa.field("c", before)]), pa.schema([pa.field("c", field.type)])],
                    promote_options="permissive",
                )
            except pa.ArrowException as error:
                raise RequestError(
                    f"The column {field.name!r} of {manifest} holds {field.type}, but {before} in the store's "
                    "catalogue; give it one type, or use another store."
                ) from error


def with_rows(table: pa.Table, rows: Mapping[int, dict[str, Any]]) -> pa.Table:
    """The table with other rows at these places."""
    if not rows:
        return table
    changed = pa.Table.from_pylist([*rows.values()], schema=table.schema)
    order = np.arange(table.num_rows)
    order[[*rows]] = table.num_rows + np.arange(len(rows))
    return pa.concat_tables([table, changed]).take(pa.array(order))


def rewrite(store: Store, change: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """Replace the store's catalogue by what `change` makes of it, and return that.

    Where somebody else was first, `change` is asked again. Nothing is written where nothing is changed.
    """
    for _ in range(MERGE_TRIES):
        catalogue = read_catalogue(store)
        whole = change(catalogue.table)
        if whole is catalogue.table:
            return whole
        buffer = io.BytesIO()
        pq.write_table(whole, buffer, compression="zstd")
        try:
            store.replace(PATH, buffer.getvalue(), expect=catalogue.version)
        except Changed:
            continue
        return whole
    raise RuntimeError(f"{MERGE_TRIES} others changed the catalogue while this one tried to.")


def merge(
    store: Store,
    plan: pa.Table,
    outcomes: pa.Table,
    *,
    settle: Callable[[pa.Table, pa.Table], pa.Table] = lambda mine, _: mine,
) -> pa.Table:
    """Put this run's `outcomes` into the store's catalogue, and what the manifest carries beside every row of `plan`.

    A row keeps an outcome that is newer than this run's. Other rows of the catalogue stay as they are. Returns the
    part of the new catalogue that this plan is about, in plan order, as `settle` gave it, which may change it. `settle`
    is given that part, and the whole catalogue of before.
    """
    mine = SCHEMA.empty_table()

    def change(before: pa.Table) -> pa.Table:
        nonlocal mine
        mine, others = _merged(before, plan, outcomes)
        mine = settle(mine, before)
        return pa.concat_tables([others, mine], promote_options="permissive")

    rewrite(store, change)
    return mine


def _merged(before: pa.Table, plan: pa.Table, outcomes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of the plan with their newest outcome and carried columns, and the rows of other plans."""
    ids = plan.column("id").combine_chunks()
    of_plan = pc.is_in(before.column("id"), value_set=ids)
    others = before.filter(pc.invert(of_plan))
    candidates = pa.concat_tables([kept(before, outcomes), before.filter(of_plan).select(SCHEMA.names).cast(SCHEMA)])
    # Newest first: an id is found at its first place. Sorting is stable, so what `kept` let stand comes before itself.
    newest = candidates.take(pc.sort_indices(candidates, [("finished_at", "descending")]))
    places = pc.index_in(ids, value_set=newest.column("id").combine_chunks())
    mine = newest.take(places.drop_null())
    carried = plan.filter(pc.is_valid(places)).select([n for n in plan.schema.names if n.startswith(CARRIED)])
    for name in carried.schema.names:
        mine = mine.append_column(
            carried.schema.field(name).with_name(name.removeprefix(CARRIED)), carried.column(name)
        )
    return mine, others

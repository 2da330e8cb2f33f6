"""What stays as it was although it was looked at again: the look failed, and what it was looking at didn't."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from safety.verdict import Reason
from tasks.outcome import SCHEMA, Status

UNJUDGED = (Reason.SCREEN_FAILED, Reason.CLASSIFIER_FAILED)
"""Why something was refused of which nothing is known: a check of it failed."""


def kept(before: pa.Table, outcomes: pa.Table) -> pa.Table:
    """Return the outcomes of a run as the catalogue takes them, with what it said `before` where that stands.

    An outcome that `keeps` says that its row couldn't be looked at, not what it is like. Where the catalogue has one of
    the same key that a check or a person decided, that one stands, and is retryable from now on: the next run looks
    again. Where it has none, nothing is known of the row, and its own outcome counts: it was refused, or it failed.

    Args:
        before: the catalogue.
        outcomes: as ledgers have them, `tasks.outcome.LEDGER`.

    Returns:
        as many rows as `outcomes`, of `tasks.outcome.SCHEMA`, in no particular order.
    """
    places = pc.index_in(outcomes.column("id"), value_set=before.column("id").combine_chunks())
    same = pc.equal(before.column("key").take(places), outcomes.column("key"))
    stands = pc.and_(outcomes.column("keeps"), pc.and_(same, _decided(before).take(places)))
    stands = pc.fill_null(stands, False)  # where the catalogue doesn't have the row
    own = outcomes.select(SCHEMA.names).cast(SCHEMA)
    theirs = before.select(SCHEMA.names).cast(SCHEMA).take(places.filter(stands))
    at = SCHEMA.get_field_index("retryable")
    theirs = theirs.set_column(at, SCHEMA.field(at), pa.repeat(True, theirs.num_rows))
    return pa.concat_tables([own.filter(pc.invert(stands)), theirs])


def still_to_judge(table: pa.Table) -> pa.ChunkedArray:
    """Return a mask of the catalogue's rows that `kept` let stand: what is retryable is the look, not the row."""
    return pc.and_(table.column("retryable"), _decided(table))


def _decided(table: pa.Table) -> pa.ChunkedArray:
    """Return a mask of the rows of which something is known."""
    unjudged = pc.is_in(table.column("reason"), value_set=pa.array(UNJUDGED, pa.string()))
    return pc.invert(pc.or_(unjudged, pc.equal(table.column("status"), Status.FAILED)))

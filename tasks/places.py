"""Places: what lies in the store where no row of the catalogue says so any more, and is taken away.

A row's picture is put where the row will say before the row says so, and taken from where it was when the row has said
so. Stopped between the two, it lies in both places: never in none, and the catalogue is right about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.outcome import Status
from tasks.shelf import QUARANTINE, Shelf

DELETING_THREADS = 16


def clear(keys: Iterable[str], catalogue: pa.Table, shelf: Shelf[Any]) -> None:
    """Take what lies under these keys from where no row of the whole catalogue has it.

    What was made of a row that is done lies in the shelf's published place. What was made of one that was refused lies
    in quarantine, whether its picture was refused or, later, its prompt. Keys that no such row has are left alone.
    """
    wanted = pa.array(sorted(set(keys)), pa.string())
    done = _among(wanted, catalogue, [Status.DONE])
    refused = _among(wanted, catalogue, [Status.REJECTED, Status.BLOCKED])
    stale = [
        *((shelf.published, key) for key in wanted.filter(pc.and_not(refused, done)).to_pylist()),
        *((QUARANTINE, key) for key in wanted.filter(pc.and_not(done, refused)).to_pylist()),
    ]
    with ThreadPoolExecutor(DELETING_THREADS) as pool:
        list(pool.map(lambda one: shelf.remove(*one), stale))


def _among(keys: pa.Array, catalogue: pa.Table, statuses: list[Status]) -> pa.Array:
    """Which keys rows have that ended so."""
    rows = catalogue.filter(pc.is_in(catalogue.column("status"), value_set=pa.array(statuses, pa.string())))
    return pc.is_in(keys, value_set=rows.column("key").combine_chunks())

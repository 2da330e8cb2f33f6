"""Retire: what is to be withdrawn because its row left the manifest.

A store may hold the rows of many manifests. Which one a row came from stands in the job of the run that settled it.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from safety.verdict import Reason
from tasks.catalogue.catalogue import outcomes_in, with_rows
from tasks.ledger.run import Run
from tasks.outcome import Status
from tasks.stores.store import Store

SHOWABLE = (Reason.REVIEW, Reason.DUPLICATE)  # of rejected rows: these may be published one day
MESSAGE = "The row is no longer in the manifest."


def left_behind(others: pa.Table, manifest: str, store: Store, pool: Executor) -> pa.ChunkedArray:
    """Return a mask of the rows of a catalogue that came from this manifest and could be published.

    Args:
        others: the rows that the manifest's newest plan isn't about.
        manifest: its address, as jobs give it.
    """
    shown = pc.equal(others.column("status"), Status.DONE)
    may_be = pc.is_in(others.column("reason"), value_set=pa.array(SHOWABLE, pa.string()))
    candidates = pc.or_(shown, may_be)
    runs = pc.unique(others.column("run").filter(candidates)).to_pylist()
    manifests = zip(runs, pool.map(lambda run: _manifest(store, run), runs), strict=True)
    of_manifest = [run for run, its in manifests if its == manifest]
    return pc.and_(candidates, pc.is_in(others.column("run"), value_set=pa.array(of_manifest, pa.string())))


def retired(others: pa.Table, which: pa.ChunkedArray, planned_from: int) -> pa.Table:
    """Return the rows with these ones, a mask, rejected because they left the manifest; they have no version."""
    places = pc.indices_nonzero(which).to_pylist()
    rows = outcomes_in(others.take(pa.array(places, pa.int64())))
    end = {
        "status": Status.REJECTED,
        "reason": Reason.RETIRED,
        "message": MESSAGE,
        "retryable": False,
        "asks": [],
        "finished_at": datetime.now(UTC),
        "planned_from": planned_from,
        "changed_in": None,
    }
    return with_rows(others, {place: row | end for place, row in zip(places, rows, strict=True)})


def _manifest(store: Store, run: str) -> str | None:
    """Return the manifest that a run read; None if nobody knows any more."""
    found = store.read(Run(run).path("job.json"))
    try:
        return None if found is None else str(json.loads(found[0])["job"]["manifest"])
    except (ValueError, KeyError, TypeError):
        return None

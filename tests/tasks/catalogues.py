"""Catalogues for tests: outcomes put into one as a run does it, and where their pictures lie then."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tasks.catalogue.catalogue import read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit
from tasks.catalogue.row_versions import Merged, merge
from tasks.outcome import Outcome, outcome_table
from tasks.results.encoding import Encoding
from tasks.results.publication import PUBLISHED
from tasks.results.shelf import PictureShelf, StoredPicture
from tasks.stores.store import Store

Settle = Callable[[pa.Table, pa.Table], pa.Table]


def commit(
    store: Store,
    plan: pa.Table,
    outcomes: list[Outcome],
    *,
    run: str = "",
    planned_from: int | None = None,
    settle: Settle = lambda mine, _: mine,
) -> pa.Table:
    """Commit what a run's shards gave; return the catalogue's rows of its plan.

    Unless said otherwise, the run is another one each time, and its plan was made from the catalogue as it is.
    """
    version = read_catalogue(store).state.version if planned_from is None else planned_from

    with CatalogueEdit(store, "a test") as edit:
        for before in edit.tries():
            name = run or uuid.uuid4().hex
            merged = merge(before.table, plan, outcome_table(outcomes), run=name, planned_from=version)
            edit.commit(before, Merged(merged.others, merged.newer, settle(merged.mine, before.table)).whole())
    return edit.after.part(plan)


def kept(store: Store, key: str, picture: bytes | None = None) -> dict[str, Any]:
    """Make a picture's master; return what an outcome says of it."""
    shelf = PictureShelf(store, Encoding("png", 92))
    return shelf.said(shelf.keep(key, StoredPicture(picture or f"picture {key}".encode()))[0])


def published(store: Store) -> set[str]:
    """Every publication in a folder or bucket, by its path without the name that is used once: `images/KEY`."""
    found = set()
    for place in ("images", "layers", "quarantine"):
        for listed in store.listing(place):
            if match := PUBLISHED.search(listed.path):
                folder = match[1].split("/")
                found.add(f"{place}/{folder[2].rpartition('-')[0]}")
    return found


def path_of(store: Store, uri: str | None) -> str:
    """The path in the store of an address that the catalogue names."""
    return str(uri).removeprefix(store.uri).lstrip("/")


def whole(store: Store) -> None:
    """Check that whatever the catalogue names is there, with the content that it says."""
    for row in read_catalogue(store).table.to_pylist():
        for uri in [row["uri"], *(row["layer_uris"] or [])]:
            assert uri is None or store.exists(path_of(store, uri)), (row["id"], uri)
        if row["uri"]:
            found = store.read(path_of(store, row["uri"]))
            assert found is not None
            assert len(found[0]) == row["bytes"]

"""The shelf of pictures: one object each, and beside an edited one what people compare it with."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.results.encoding import Encoding, decode, reference_copy
from tasks.results.publication import publication_of, publish
from tasks.results.shelf import PictureShelf, StoredPicture
from tasks.stores.opening import open_store
from tasks.stores.store import Store

KEY = "ab" * 32


@pytest.fixture
def store(s3_store_uri: str) -> Store:
    return open_store(s3_store_uri)


def test_what_an_edit_was_made_from_lies_beside_it_and_is_never_published(store: Store) -> None:
    source, reference = np.full((40, 60, 3), 200, np.uint8), np.full((30, 30, 3), 90, np.uint8)
    beside = {"source.jpg": reference_copy(source), "image2.jpg": reference_copy(reference)}
    shelf = PictureShelf(store, Encoding("png", 92))

    master, _ = shelf.keep(KEY, StoredPicture(b"an edit", beside))
    publish(store, master, publication_of(KEY, "0123", extension="png", layers=0))

    said = shelf.said(master)
    kept = [store.read(uri.removeprefix(store.uri).lstrip("/")) for uri in said["source_uris"]]
    assert [one and decode(one[0]).shape for one in kept] == [(40, 60, 3), (30, 30, 3)]
    found = shelf.find(KEY)
    assert found is not None
    assert shelf.read(found).picture == b"an edit"
    assert [one.path for one in store.listing("images")] == [f"images/ab/{KEY}-0123.png"]

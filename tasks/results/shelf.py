"""The results of one kind of job as they are stored: what a stage has of them, and what their master has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tasks.results.encoding import Encoding
from tasks.results.from_before import find_master
from tasks.results.master import PICTURE, Master, Masters
from tasks.stores.store import Store

Contents = TypeVar("Contents")


class Shelf(Protocol[Contents]):
    """Keeps and finds the masters of one kind of job. Safe to use from many threads."""

    def find(self, key: str) -> Master | None:
        """Return a key's master, with one request; None if there is none.

        Raises:
            ValueError: its record can't be read; the message is a sentence.
        """

    def read(self, master: Master) -> Contents:
        """Return what a master holds.

        Raises:
            ValueError: something of it is gone or damaged; the message is a sentence.
        """

    def keep(self, key: str, contents: Contents) -> tuple[Master, bool]:
        """Make a master of results, unless there is one; return the one that stands, and whether it holds them."""

    def said(self, master: Master) -> dict[str, Any]:
        """Return what an outcome says of a master: its addresses, format, size in bytes and SHA-256."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture as its master has it: its bytes, and those of what lies beside it, by name."""

    picture: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


class PictureShelf(Shelf[StoredPicture]):
    """Pictures, one object each, and beside an edited one what it was made from."""

    def __init__(self, store: Store, encoding: Encoding, *, from_before: bool = False) -> None:
        """`from_before` says that the store may hold pictures that have no masters yet."""
        self.store, self.encoding, self.from_before = store, encoding, from_before
        self.masters = Masters(store)

    def find(self, key: str) -> Master | None:
        """Return a key's master, as every `Shelf` does."""
        return find_master(
            self.store, key, extension=self.encoding.extension, layered=False, from_before=self.from_before
        )

    def read(self, master: Master) -> StoredPicture:
        """Return what a master holds, as every `Shelf` does; what lies beside the picture isn't read."""
        return StoredPicture(self.masters.read(master, next(iter(master.parts))))

    def keep(self, key: str, contents: StoredPicture) -> tuple[Master, bool]:
        """Make a master of results, as every `Shelf` does."""
        named = {f"{PICTURE}.{self.encoding.extension}": contents.picture, **contents.beside}
        return self.masters.keep_or_find(key, "images", named)

    def said(self, master: Master) -> dict[str, Any]:
        """Return what an outcome says of a master, as every `Shelf` does."""
        return addressed(self.store, master) | {"format": self.encoding.format}


def addressed(store: Store, master: Master) -> dict[str, Any]:
    """Return what an outcome says of where a master lies, and of its picture or composite."""
    return {
        "uri": store.uri_of(master.main.path),
        "layer_uris": [store.uri_of(part.path) for part in master.layers],
        "source_uris": [store.uri_of(part.path) for part in master.originals],
        "bytes": master.main.bytes,
        "sha256": master.main.sha256,
    }

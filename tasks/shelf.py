"""Where what was made for a key lies in the store: what passed in one place, what was refused in quarantine."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, TypeVar

from tasks.encoding import Encoding
from tasks.store import Store

QUARANTINE = "quarantine"

Contents = TypeVar("Contents")


class Shelf(Protocol[Contents]):
    """The results of one kind of job."""

    published: str  # the place of what passed

    def find(self, key: str) -> str | None:
        """The place where a key's results lie whole, None where they don't."""

    def read(self, place: str, key: str) -> Contents:
        """What lies there.

        Raises:
            ValueError: with a sentence, if it is gone or can't be read.
        """

    def put(self, place: str, key: str, contents: Contents) -> dict[str, Any]:
        """Put results there, unless they are there already; returns what the catalogue says of them."""

    def describe(self, place: str, key: str, contents: Contents) -> dict[str, Any]:
        """What the catalogue says of results that lie there already."""

    def copy(self, place: str, to: str, key: str) -> dict[str, Any] | None:
        """Copy what lies at `place`, byte for byte, unless it is there already; returns what the catalogue says of
        where it lies, None where there is nothing to copy."""

    def remove(self, place: str, key: str) -> None:
        """Take results away, if they are there. Done half, it can be done again."""


class PictureShelf(Shelf[bytes]):
    """Pictures, one object each: `images/ab/ab12….png`."""

    published = "images"

    def __init__(self, store: Store, encoding: Encoding) -> None:
        self.store, self.encoding = store, encoding

    def path(self, place: str, key: str) -> str:
        """Where a picture lies in the store."""
        return f"{place}/{key[:2]}/{key}.{self.encoding.extension}"

    def find(self, key: str) -> str | None:
        """See `Shelf`."""
        return next((p for p in (self.published, QUARANTINE) if self.store.exists(self.path(p, key))), None)

    def read(self, place: str, key: str) -> bytes:
        """See `Shelf`."""
        found = self.store.read(self.path(place, key))
        if found is None:
            raise ValueError("The stored picture was removed while the run was under way.")
        return found[0]

    def put(self, place: str, key: str, contents: bytes) -> dict[str, Any]:
        """See `Shelf`."""
        path = self.path(place, key)
        stored = self.store.adopt_or_put(path, contents, content_type=self.encoding.content_type)
        return {
            "uri": self.store.uri_of(path),
            "format": self.encoding.format,
            "bytes": stored.size,
            "sha256": stored.sha256,
        }

    def describe(self, place: str, key: str, contents: bytes) -> dict[str, Any]:
        """See `Shelf`."""
        return {
            "uri": self.store.uri_of(self.path(place, key)),
            "format": self.encoding.format,
            "bytes": len(contents),
            "sha256": hashlib.sha256(contents).hexdigest(),
        }

    def copy(self, place: str, to: str, key: str) -> dict[str, Any] | None:
        """See `Shelf`."""
        found = self.store.read(self.path(place, key))
        if found is None:
            return None
        path = self.path(to, key)
        if to != place:
            self.store.adopt_or_put(path, found[0], content_type=self.encoding.content_type)
        return {"uri": self.store.uri_of(path), "layer_uris": []}

    def remove(self, place: str, key: str) -> None:
        """See `Shelf`."""
        self.store.delete(self.path(place, key))

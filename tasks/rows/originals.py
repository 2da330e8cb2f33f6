"""The pictures that rows are made from: looked at once for a plan, and read again by the lane that makes the row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from tasks.manifests.row import BadRow, PlannedPicture, Row
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources
from tasks.sources.source_error import SourceError
from tasks.stores.store import Store

READING_THREADS = 16
KEPT = "sources:"  # before the hash of a picture that the manifest itself held


@dataclass(frozen=True)
class OriginalReference:
    """What a plan says of a picture."""

    address: str  # where a lane reads it
    source: str  # SHA-256 of its bytes, hex
    width: int  # pixels, upright
    height: int


class Originals:
    """Looks at the pictures of a manifest, each once; safe to use from many threads."""

    def __init__(self, sources: Sources, decoder: Decoder, store: Store | None) -> None:
        """`store` keeps pictures that the manifest itself holds, for the lanes; without one nothing is written."""
        self.sources, self.decoder, self.store = sources, decoder, store
        self._held: dict[str, bytes] = {}  # pictures of the last batch that are in the manifest, by hash

    def begin(self) -> None:
        """Begin another batch: what was held of the last one is let go."""
        self._held.clear()

    def look(self, column: str, value: Any) -> OriginalReference:
        """Read the picture that `column` says in one row: its bytes, its address, or a struct of both.

        Raises:
            SourceError: if there is none, or it can't be read or its header shows that it won't do.
        """
        image = value["bytes"] or value["path"] if isinstance(value, dict) else value  # as Hugging Face datasets do it
        if not image:
            raise SourceError("bad_value", f"The {column} is empty; it should be a picture's bytes or its address.")
        data = self.sources.read(image)
        size = self.decoder.measure(data)
        source = hashlib.sha256(data).hexdigest()
        if isinstance(image, bytes):
            self._held[source] = data
        return OriginalReference(KEPT + source if isinstance(image, bytes) else image, source, size.width, size.height)

    def keep(self, row: Row) -> None:
        """Put the pictures that the manifest holds of a row where lanes can read them, once for all rows of a batch."""
        for picture in row.originals:
            held = self._held.pop(picture.source, None)
            if self.store is not None and held is not None:
                self.store.adopt_or_put(kept_path(picture.source), held)


def unread(row_id: str, text: str, error: SourceError) -> BadRow:
    """Return the row that fails with its picture; `text` is what it says beside that."""
    return BadRow(row_id, text, error.message, error.reason, error.retryable)


def kept_path(source: str) -> str:
    """Return where a picture that a manifest held lies in the store, by the hash of its bytes."""
    return f"sources/{source[:2]}/{source}"


def read_source(picture: PlannedPicture, sources: Sources, store: Store) -> bytes:
    """Return the bytes of a planned row's picture.

    Raises:
        SourceError: if it can't be read, or isn't any more what it was when the plan was made.
    """
    if picture.image.startswith(KEPT):
        found = store.read(kept_path(picture.source))
        if found is None:
            raise SourceError("source_not_found", "The picture that the manifest held is gone from the store.")
        data = found[0]
    else:
        data = sources.read(picture.image)
    if hashlib.sha256(data).hexdigest() != picture.source:
        raise SourceError(
            "source_changed",
            "The picture has changed since the plan was made; the next run will take it as it is.",
            retryable=True,
        )
    return data

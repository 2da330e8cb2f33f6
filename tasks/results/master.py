"""Masters: what was made for a key, written once, and never changed, moved or deleted by a run or a review.

    masters/ab/ab12….json                      the record: the names and hashes of the objects
    masters/ab/ab12…/3f0a….picture.png, …      the objects

The record is written after its objects, under put-if-absent: it makes them the master. Whoever comes second finds the
first one's record and goes by that, so objects of two writers are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from tasks.stores.store import Conflict, Damaged, Missing, Store, sha256_of

PICTURE = "picture"  # the name of a picture's one object, before its extension
COMPOSITE, SOURCE, PSD = "composite.png", "source.png", "layers.psd"
ORIGINALS = ("source.jpg", "image2.jpg", "image3.jpg")  # beside an edited picture: what it was made from
PRIVATE = (SOURCE,)  # parts that are never published: somebody's photograph, as far as anybody knows
CONTENT_TYPES = {".psd": "image/vnd.adobe.photoshop", ".webp": "image/webp"}  # that Python doesn't know everywhere

Kind = Literal["images", "layers"]


@dataclass(frozen=True)
class MasterPart:
    """One object of a master."""

    path: str  # in the store
    sha256: str  # hex, of its content
    bytes: int


@dataclass(frozen=True)
class Master:
    """What was made for a key: a picture or layers, with what a person needs beside them."""

    key: str
    kind: Kind
    parts: Mapping[str, MasterPart]  # by name: `picture.png`, or `0.png … n.png`, `composite.png`, …
    caption: str = ""  # that layers were made with, given or written

    @property
    def main(self) -> MasterPart:
        """The picture itself, or the composite of the layers."""
        return self.parts[COMPOSITE] if self.kind == "layers" else next(iter(self.parts.values()))

    @property
    def originals(self) -> list[MasterPart]:
        """What an edited picture was made from, the source first; nothing beside any other picture."""
        return [self.parts[name] for name in ORIGINALS if name in self.parts]

    @property
    def layers(self) -> list[MasterPart]:
        """The layers from the bottom to the top; none of a picture."""
        names = [name for name in self.parts if name.removesuffix(".png").isdigit()]
        return [self.parts[name] for name in sorted(names, key=lambda name: int(name.removesuffix(".png")))]


class Masters:
    """The masters of a store. Safe to use from many threads."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def find(self, key: str) -> Master | None:
        """Return a key's master, with one request; None if there is none.

        Raises:
            ValueError: its record can't be read; the message is a sentence.
        """
        path = record_path(key)
        found = self.store.read(path)
        return None if found is None else _read(found[0], self.store.uri_of(path))

    def keep(self, key: str, kind: Kind, contents: Mapping[str, bytes], caption: str = "") -> Master:
        """Write a key's master unless it has one; return the one that stands, which may be another writer's."""
        return self.keep_or_find(key, kind, contents, caption)[0]

    def keep_or_find(
        self, key: str, kind: Kind, contents: Mapping[str, bytes], caption: str = ""
    ) -> tuple[Master, bool]:
        """Return the same; say also whether what stands is what was to be kept."""
        parts = {}
        for name, content in contents.items():
            sha256, size = sha256_of(content)
            part = MasterPart(part_path(key, name, sha256), sha256, size)
            self.store.put_once(part.path, content, content_type=content_type(name))
            parts[name] = part
        ours = Master(key, kind, parts, caption)
        stands = self._record(ours)
        return stands, stands == ours

    def _record(self, master: Master) -> Master:
        """Write the record of objects that are there; return the master that stands."""
        path = record_path(master.key)
        content = json.dumps(asdict(master), indent=1, ensure_ascii=False).encode()
        try:
            self.store.put_once(path, content, content_type="application/json")
        except Conflict:
            stands = self.find(master.key)
            if stands is None:
                raise
            # Nobody can make these objects a master any more.
            for part in {part.path for part in master.parts.values()} - {part.path for part in stands.parts.values()}:
                self.store.delete(part)
            return stands
        return master

    def read(self, master: Master, name: str) -> bytes:
        """Return the content of one of a master's objects.

        Raises:
            ValueError: it is gone, or isn't what was written; the message is a sentence.
        """
        part = master.parts[name]
        found = self.store.read(part.path)
        if found is None:
            raise ValueError(gone(self.store.uri_of(part.path)))
        if hashlib.sha256(found[0]).hexdigest() != part.sha256:
            raise ValueError(damaged(self.store.uri_of(part.path)))
        return found[0]


def record_path(key: str) -> str:
    """Return where the record of a key's master lies in the store."""
    return f"masters/{key[:2]}/{key}.json"


def part_path(key: str, name: str, sha256: str) -> str:
    """Return where an object of a master lies: a name for each content, so that no writer changes another's."""
    return f"masters/{key[:2]}/{key}/{sha256[:16]}.{name}"


def content_type(name: str) -> str:
    """Return the media type of an object by its name."""
    suffix = f".{name.rpartition('.')[2]}"
    return CONTENT_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def gone(uri: str) -> str:
    """Say that a stored object isn't there any more."""
    return f"{uri} was removed from the store: restore it, or remove its record to have it made again."


def damaged(uri: str) -> str:
    """Say that a stored object has another content than the one that was written."""
    return f"{uri} isn't what was written there: its SHA-256 differs. Restore it, or remove its record and it."


def copy_of(store: Store, part: MasterPart, to: str) -> None:
    """Copy an object of a master to a name that is used once.

    Raises:
        ValueError: the object is gone or damaged; the message is a sentence.
    """
    try:
        store.copy(part.path, to, sha256=part.sha256, size=part.bytes)
    except Missing:
        raise ValueError(gone(store.uri_of(part.path))) from None
    except Damaged:
        raise ValueError(damaged(store.uri_of(part.path))) from None


def _read(content: bytes, uri: str) -> Master:
    try:
        fields = json.loads(content)
        parts = {str(name): MasterPart(**part) for name, part in fields["parts"].items()}
        master = Master(fields["key"], fields["kind"], parts, fields["caption"])
        whole = bool(parts) and (master.kind == "images" or (master.kind == "layers" and COMPOSITE in parts))
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{uri} isn't the record of what was made: restore it, or remove it to have it made again.")
    return master

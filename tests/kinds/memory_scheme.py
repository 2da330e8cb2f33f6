"""A store in memory, and the scheme by which it is told: `memory://`. All that a new kind of store takes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.stores.opening import SCHEMES
from tasks.stores.store import (
    STEPS,
    Changed,
    Conflict,
    Damaged,
    ListedObject,
    Missing,
    Step,
    Store,
    StoredObject,
    checked,
)


class MemoryStore(Store):
    """What lies below a prefix of a dictionary; the version token of an object is its SHA-256."""

    def __init__(self, objects: dict[str, bytes], lock: threading.RLock, address: str) -> None:
        self.objects, self.lock, self.address = objects, lock, address.strip("/")
        self.folder_name = f"{self.address.partition('/')[2]}/".lstrip("/")

    @property
    def uri(self) -> str:
        return f"memory://{self.address}"

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{checked(path)}"

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        stored = self.adopt_or_put(path, data, content_type=content_type)
        if stored.sha256 != (ours := sha256(whole(data))):
            raise Conflict(self.uri_of(path), ours=ours, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:  # noqa: ARG002
        with self.lock:
            adopted = self._key(path) in self.objects
            content = self.objects.setdefault(self._key(path), whole(data))
        return StoredObject(path, len(content), sha256(content), adopted)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:  # noqa: ARG002
        with self.lock:
            content, there = whole(data), self.read(path)
            if there is None or there[0] != content:
                if (there and there[1]) != expect:
                    raise Changed(self.uri_of(path))
                self.objects[self._key(path)] = content
            return sha256(content)

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:  # noqa: ARG002
        self.objects[self._key(path)] = whole(data)

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        with self.lock:
            for there in (self.read(to), found := self.read(path)):
                if there is not None and (there[1], len(there[0])) == (sha256, size):
                    self.objects[self._key(to)] = there[0]
                    return
        raise Missing(self.uri_of(path)) if found is None else Damaged(self.uri_of(path))

    def read(self, path: str) -> tuple[bytes, str] | None:
        content = self.objects.get(self._key(path))
        return None if content is None else (content, sha256(content))

    def download(self, path: str, to: Path) -> str | None:
        if (found := self.read(path)) is None:
            return None
        to.write_bytes(found[0])
        return found[1]

    def exists(self, path: str) -> bool:
        return self._key(path) in self.objects

    def delete(self, path: str) -> None:
        self.objects.pop(self._key(path), None)

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        below = self._key(prefix) + "/" if prefix else self.folder_name
        with self.lock:
            found = [(key, content) for key, content in self.objects.items() if key.startswith(below)]
        for key, content in found:
            yield ListedObject(key.removeprefix(self.folder_name), len(content), datetime.now(UTC), sha256(content))

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        for step in STEPS:
            passed(step)

    def _key(self, path: str) -> str:
        return f"{self.folder_name}{checked(path)}"


def whole(data: bytes | Path) -> bytes:
    return data if isinstance(data, bytes) else data.read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def registered_scheme() -> Iterator[dict[str, bytes]]:
    """Have addresses at `memory://` be those of such stores; gives all that lies there, by its path."""
    stored: dict[str, bytes] = {}
    lock = threading.RLock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEMES, "memory", lambda rest, *_: MemoryStore(stored, lock, rest))
        yield stored

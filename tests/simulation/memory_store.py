"""A store in memory, of which every operation is a point where others may run and things may go wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tasks.stores.store import (
    Changed,
    Conflict,
    Damaged,
    ListedObject,
    Missing,
    Step,
    Store,
    StoredObject,
    StoreUnreachable,
    checked,
)

from .schedule import give_way

T = TypeVar("T")
URI = "memory"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Bucket:
    """What is stored, shared by all actors: contents by path, and how often each path was written."""

    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    writes: int = 0

    def copy(self) -> Bucket:
        return Bucket(dict(self.objects), dict(self.tokens), self.writes)

    def put(self, path: str, data: bytes) -> None:
        self.writes += 1
        self.objects[path], self.tokens[path] = data, f"version {self.writes}"


class MemoryStore(Store):
    """The promises of a store, each kept in one step; the version token is a count of writes."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    @property
    def uri(self) -> str:
        return URI

    def uri_of(self, path: str) -> str:
        return f"{URI}/{checked(path)}"

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        stored = self.adopt_or_put(path, data, content_type=content_type)
        if stored.adopted and (ours := sha256(whole(data))) != stored.sha256:
            raise Conflict(self.uri_of(path), ours=ours, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:  # noqa: ARG002
        def put() -> StoredObject:
            adopted = path in self.bucket.objects
            if not adopted:
                self.bucket.put(path, whole(data))
            content = self.bucket.objects[path]
            return StoredObject(path, len(content), sha256(content), adopted)

        return self._done(f"put {path}", put)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:  # noqa: ARG002
        def put() -> str:
            content = whole(data)
            if self.bucket.objects.get(path) != content:
                if self.bucket.tokens.get(path) != expect:
                    raise Changed(self.uri_of(path))
                self.bucket.put(path, content)
            return self.bucket.tokens[path]

        return self._done(f"replace {path}", put)

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:  # noqa: ARG002
        self._done(f"overwrite {path}", lambda: self.bucket.put(path, whole(data)))

    def read(self, path: str) -> tuple[bytes, str] | None:
        def get() -> tuple[bytes, str] | None:
            content = self.bucket.objects.get(path)
            return None if content is None else (content, self.bucket.tokens[path])

        return self._done(f"read {path}", get, writes=False)

    def download(self, path: str, to: Path) -> str | None:
        found = self.read(path)
        if found is None:
            return None
        to.write_bytes(found[0])
        return found[1]

    def exists(self, path: str) -> bool:
        return self._done(f"exists {path}", lambda: path in self.bucket.objects, writes=False)

    def delete(self, path: str) -> None:
        def remove() -> None:
            self.bucket.objects.pop(path, None)
            self.bucket.tokens.pop(path, None)

        self._done(f"delete {path}", remove)

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        def put() -> None:
            content = self.bucket.objects.get(path)
            if content is None:
                raise Missing(self.uri_of(path))
            if (hashlib.sha256(content).hexdigest(), len(content)) != (sha256, size):
                raise Damaged(self.uri_of(path))
            self.bucket.put(to, content)

        self._done(f"copy {path} to {to}", put)

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        def names() -> list[ListedObject]:
            return [
                ListedObject(path, len(content), LONG_AGO)
                for path, content in sorted(self.bucket.objects.items())
                if path.startswith(f"{prefix}/")
            ]

        yield from self._done(f"list {prefix}", names, writes=False)

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:  # noqa: ARG002
        raise AssertionError("a simulated store needs no probe")

    def _done(self, operation: str, effect: Callable[[], T], *, writes: bool = True) -> T:
        fate = give_way(operation, writes=writes)
        if fate == "lose request":
            raise StoreUnreachable(f"{URI} didn't answer.")
        result = effect()
        if fate == "lose answer":
            raise StoreUnreachable(f"{URI} didn't answer.")
        return self._done(operation, effect, writes=writes) if fate == "ask again" else result


def whole(data: bytes | Path) -> bytes:
    return data if isinstance(data, bytes) else data.read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

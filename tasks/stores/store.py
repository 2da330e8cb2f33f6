"""The object store: a bucket on S3, or a folder that makes the same promises.

    store = open_store("s3://shop/catalogue")
    store.probe()
    stored = store.put_once(f"images/{key[:2]}/{key}.png", png, content_type="image/png")

An object appears whole or not at all, and the first to write it wins. Writers never take turns: whoever comes second
finds what the first one wrote, compares its SHA-256, and adopts it.
"""

import hashlib
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar, get_args

from models.mendable import Mendable
from tasks.stores.dialect import Dialect

A = TypeVar("A")
B = TypeVar("B")

PIECE = 1 << 20  # bytes read at a time from a file or a connection
Step = Literal["reach", "write", "conditional put", "copy", "delete"]
STEPS: tuple[Step, ...] = get_args(Step)
"""What a probe tries, in this order."""


class StoreError(Mendable):
    """The store can't do what is asked of it, and a person can mend that. One sentence, made to be shown."""


class StoreUnreachable(StoreError):  # noqa: N818
    """Nobody answers at the store's address, or not in time, or not in their right mind."""


class StoreReadOnly(StoreError):  # noqa: N818
    """The store answers, but doesn't let us write."""


class StoreAddressError(Mendable, ValueError):
    """This isn't the address of a store. One sentence, made to be shown."""


class Conflict(Exception):  # noqa: N818
    """An object that is written once exists already, with other content."""

    def __init__(self, uri: str, *, ours: str, theirs: str) -> None:
        super().__init__(f"{uri} exists already with other content: SHA-256 {theirs}, not {ours}.")
        self.uri = uri
        self.ours = ours
        self.theirs = theirs


class Changed(Exception):  # noqa: N818
    """Somebody else replaced the object since it was read: read it again, and try again."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} was changed by somebody else since it was read.")
        self.uri = uri


class Missing(Exception):  # noqa: N818
    """There is no object where one is to be copied from."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"There is no object at {uri}.")
        self.uri = uri


class Damaged(Exception):  # noqa: N818
    """An object that is to be copied hasn't the size and the SHA-256 that it was written with."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} isn't the object that was written there: its size or SHA-256 is another.")
        self.uri = uri


@dataclass(frozen=True)
class StoredObject:
    """What is in the store now under `path`."""

    path: str
    size: int  # bytes
    sha256: str  # hex, of the content
    adopted: bool  # it was there already


@dataclass(frozen=True)
class ListedObject:
    """An object as a listing has it."""

    path: str
    size: int  # bytes
    modified: datetime  # by the store's own clock, in UTC
    version: str | None = None  # its token, where a listing says so


@dataclass(frozen=True)
class Noted:
    """What is known of an object that isn't read."""

    size: int  # bytes
    sha256: str | None = None  # hex, as its writer noted it, if it did


class Store(Protocol):
    """Objects under relative POSIX paths such as `images/ab/ab12.png`; safe to use from many threads.

    Every method raises `StoreError` when the store is out of reach or refuses, and `ValueError` for a path that isn't
    a plain relative one. `data` is the content, or a file that holds it and doesn't change meanwhile.

    What has a body here goes by the other methods: right for every store, and for one that holds large objects, slow.
    """

    @property
    def uri(self) -> str:
        """The address by which it is opened again: `s3://bucket/prefix`, or the absolute path of the folder."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it is, and fills; None for any other store."""
        return None

    @property
    def copies_take_room(self) -> bool:
        """Whether a copy takes as much room again as what it is a copy of."""
        return True

    @property
    def dialect(self) -> Dialect | None:
        """What a probe has learned, for whoever opens this store again; None before that, and where that is nothing."""
        return None

    def uri_of(self, path: str) -> str:
        """Give the address of one object, as a shop would use it."""

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        """Write an object unless it exists. The same content there already is adopted.

        Raises:
            Conflict: the object exists with other content.
        """

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        """Write an object unless it exists. Whatever is there already is adopted: the size and hash are its own."""

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:
        """Write an object if it is still the version `expect`, a token of `read`; None says it must be absent.

        Returns the token of the new version.

        When the object has exactly the new content already, that is success: a repeat after a lost reply is no change.

        Raises:
            Changed: somebody else was first; or came after, saw what was written here, and replaced it before a lost
                reply could be asked for again. Who must not do a thing twice looks whether it is done.
        """

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:
        """Write an object whatever is there. The last one wins, and readers see the old or the new one whole."""

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        """Copy an object inside the store to `to`, a name that nobody else writes, and check that the copy is whole.

        On S3 the server copies and no bytes come here, unless it has no digest of its own to check the copy by; in a
        folder it is a reflink, a hard link of a read-only file, or a copy. A repeat finds its own copy.

        Raises:
            Missing: there is no object at `path`.
            Damaged: what is there, or what was copied, hasn't this size and SHA-256. Nothing is left at `to`.
        """

    def read(self, path: str) -> tuple[bytes, str] | None:
        """Give an object's content and its version token, or None when it is absent."""

    def download(self, path: str, to: Path) -> str | None:
        """Stream an object to the file `to`, which appears whole; give its version token, or None when absent."""

    def read_at_most(self, path: str, limit: int) -> bytes | None:
        """Give a stranger's object, or None when it is absent; of one over `limit` bytes only its first `limit` + 1."""
        found = self.read(path)
        return None if found is None else found[0][: limit + 1]

    def read_through(self, path: str, act: Callable[[BinaryIO], A]) -> A | None:
        """Give what `act` makes of an object's content, which it reads to its end; None when it is absent.

        It is called again, with the content from its start, where that breaks off on the way.
        """
        found = self.read(path)
        return None if found is None else act(io.BytesIO(found[0]))

    def go_on(self, path: str, to: Path, *, size: int, version: str | None, moved: Callable[[int], object]) -> None:
        """Go on with a download into the file `to`, which holds what came before, until it has `size` bytes.

        `version` is the token that a listing gave, and `moved` is told of bytes as they come.

        Raises:
            Changed: the object is gone, or has another version.
            StoreUnreachable: nothing comes any more; the file keeps what came.
        """
        found = self.read(path)
        if found is None or version not in (None, found[1]):
            raise Changed(self.uri_of(path))
        with to.open("ab") as content:
            moved(content.write(found[0][content.tell() : size]))

    def upload(self, path: str, file: Path, *, sha256: str, moved: Callable[[int], object]) -> None:
        """Write a file whose SHA-256 is known, whatever is there; `moved` is told of bytes as they are stored."""
        del sha256
        self.overwrite(path, file)
        moved(file.stat().st_size)

    def look(self, path: str) -> Noted | None:
        """Give what is known of an object without reading it, or None when it is absent."""
        found = self.read(path)
        return None if found is None else Noted(len(found[0]))

    def version(self, path: str) -> str | None:
        """Give an object's version token, or None when it is absent."""
        found = self.read(path)
        return None if found is None else found[1]

    def exists(self, path: str) -> bool:
        """Say whether there is an object."""

    def delete(self, path: str) -> None:
        """Remove an object. It may be absent."""

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        """Give the objects below a prefix such as `masters`, in no order; "" stands for the whole store.

        This is for a prune, a rebuild, and a folder of somebody else's, such as a manifest or a checkpoint: a run never
        lists its store. Objects that are written or removed meanwhile may be in it or not.
        """

    def keeps_versions(self) -> bool:
        """Say whether what is deleted or replaced can still be read, by whoever knows how; False if nobody can tell."""
        return False

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        """Check, before any work, that the store can be read and written and keeps its promises; leave no trace.

        What it learns about the store, this instance heeds from now on. A `replace` of an unprobed store probes it.
        `passed` is told each of `STEPS` when it has gone well.
        """


def checked(path: str) -> str:
    """Give `path` back if it is a plain relative POSIX path; paths are made from keys, so anything else is a bug.

    Raises:
        ValueError: it is absolute, or has `..`, `.`, an empty part, a backslash or a control character.
    """
    if not is_plain(path):
        raise ValueError(f"{path!r} isn't a plain relative path")
    return path


def is_plain(path: str) -> bool:
    """Say whether a path is a plain relative POSIX path."""
    odd = any(part in ("", ".", "..") for part in path.split("/"))
    return not odd and not re.search(r"[\\\x00-\x1f\x7f]", path)


def pieces(data: bytes | Path) -> Iterator[bytes]:
    """Give the content piece by piece, so that a large file never sits in memory."""
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def sha256_of(data: bytes | Path) -> tuple[str, int]:
    """Give the SHA-256 (hex) of the content, and its size in bytes."""
    digest = hashlib.sha256()
    size = 0
    for piece in pieces(data):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def at_once(act: Callable[[A], B], items: Iterable[A], *, most: int) -> Iterator[B]:
    """Give what `act` makes of each item, in order; up to `most` threads make it, never far ahead of the reader."""
    with ThreadPoolExecutor(most, "store") as threads:
        yield from in_order(threads, act, items, ahead=2 * most)


def in_order(threads: Executor, act: Callable[[A], B], items: Iterable[A], *, ahead: int) -> Iterator[B]:
    """Give what `act` makes of each item, in order; threads make it, of at most so many items ahead of the reader."""
    begun: deque[Future[B]] = deque()
    for item in items:
        begun.append(threads.submit(act, item))
        if len(begun) == ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()

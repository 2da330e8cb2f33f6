"""A store in a folder, on a local disk or a network mount, for one machine or several."""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from models.files.in_the_way import is_in_the_way
from models.files.whole_file import appearing_whole
from tasks.stores.store import (
    PIECE,
    Changed,
    Conflict,
    Damaged,
    ListedObject,
    Missing,
    Step,
    Store,
    StoredObject,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
    checked,
    in_order,
    pieces,
    sha256_of,
)

T = TypeVar("T")

INCOMING = ".incoming"  # files being written, inside the store so that they can be linked into place
LOCK = "lock"  # never removed: a lock on a removed file excludes nobody
LEFTOVER_AFTER = 3600.0  # seconds without a write after which a file in there belongs to nobody
TIDIED_AWAY = 100  # times that something may go between a look and its use: more is nobody else's work
LISTED_AT_ONCE = 16  # folders: on a network mount, each of their files is a question to the server
GONE = (errno.ENOENT, errno.ESTALE)  # the second is NFS's word for a file that another machine removed

WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
FICLONE = 0x40049409  # ioctl_ficlone(2): Linux on x86 and ARM; another system refuses the number

# What link(2) answers on file systems without hard links: exFAT, SMB, most FUSE mounts.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


class FolderStore(Store):
    """An object is a file. It is written and synced aside, then linked into place, which fails if the name is taken.

    The version token of an object is its SHA-256. Content types are for S3; a file's name says enough.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._swept = False

    @property
    def uri(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path:
        return self.root

    @property
    def copies_take_room(self) -> bool:
        return False

    def uri_of(self, path: str) -> str:
        return str(self._file(path))

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        stored = self.adopt_or_put(path, data, content_type=content_type)
        if stored.adopted and (ours := sha256_of(data)[0]) != stored.sha256:
            raise Conflict(self.uri_of(path), ours=ours, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:  # noqa: ARG002
        file = self._file(path)

        def attempt() -> StoredObject:
            if not file.exists():
                with self._written(data) as (incoming, sha256, size):
                    if self._link(incoming, file):
                        return StoredObject(path, size, sha256, adopted=False)
            sha256, size = sha256_of(file)
            sync(file.parent)  # the one who linked it may not have come this far, and from now on we rely on it
            return StoredObject(path, size, sha256, adopted=True)

        return self._persist("write", attempt)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:  # noqa: ARG002
        file = self._file(path)

        def attempt() -> str:
            with self._written(data) as (incoming, sha256, _), self._locked():
                found = digest_of(file)
                if found and found[0] == sha256:
                    return sha256
                if (found and found[0]) != expect:
                    raise Changed(self.uri_of(path))
                self._rename(incoming, file)
                return sha256

        return self._persist("write", attempt)

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:  # noqa: ARG002
        file = self._file(path)

        def attempt() -> None:
            with self._written(data) as (incoming, _, _):
                self._rename(incoming, file)

        self._persist("write", attempt)

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        source, target = self._file(path), self._file(to)

        def attempt() -> None:
            if digest_of(target) == (sha256, size):
                sync(target.parent)
                return
            target.unlink(missing_ok=True)
            if not source.exists():
                raise Missing(self.uri_of(path))
            make(target.parent)
            self._duplicate(source, target)
            if sha256_of(target) != (sha256, size):
                target.unlink(missing_ok=True)
                raise Damaged(self.uri_of(path))
            sync(target.parent)

        self._persist("write", attempt)

    def read(self, path: str) -> tuple[bytes, str] | None:
        file = self._file(path)

        def attempt() -> bytes | None:
            try:
                return file.read_bytes()
            except FileNotFoundError:
                return None

        content = self._persist("read", attempt)
        return None if content is None else (content, hashlib.sha256(content).hexdigest())

    def download(self, path: str, to: Path) -> str | None:
        file = self._file(path)

        def attempt() -> str | None:
            digest = hashlib.sha256()
            try:
                content = file.open("rb")
            except FileNotFoundError:
                return None
            with content, appearing_whole(to) as copy:
                while piece := content.read(PIECE):
                    digest.update(piece)
                    copy.write(piece)
            return digest.hexdigest()

        return self._persist("read", attempt)

    def exists(self, path: str) -> bool:
        return self._persist("read", self._file(path).exists)

    def delete(self, path: str) -> None:
        file = self._file(path)
        self._persist("delete", lambda: file.unlink(missing_ok=True))

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        folders = [self._file(prefix) if prefix else self.root]

        def entries(folder: Path) -> tuple[list[ListedObject], list[Path]]:
            return self._persist("read", lambda: self._entries(folder))

        with ThreadPoolExecutor(LISTED_AT_ONCE, "store") as threads:
            while folders:
                below: list[Path] = []
                for listed, inside in in_order(threads, entries, folders, ahead=2 * LISTED_AT_ONCE):
                    yield from listed
                    below += inside
                folders = below

    def _entries(self, folder: Path) -> tuple[list[ListedObject], list[Path]]:
        """Give the objects and the folders that lie in a folder. It may be gone by now, and so may they."""
        listed: list[ListedObject] = []
        inside: list[Path] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inside += [Path(entry.path)] if entry.name != INCOMING else []
                    continue
                with contextlib.suppress(FileNotFoundError):
                    seen = entry.stat()
                    path = Path(entry.path).relative_to(self.root).as_posix()
                    listed.append(ListedObject(path, seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC)))
        return listed, inside

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        with self._in_sentences("read"):
            made = [folder for folder in (self.root / INCOMING, self.root, *self.root.parents) if not folder.exists()]
        passed("reach")
        name = f"probe-{uuid.uuid4().hex}"
        object_, copy, lock = (self.root / INCOMING / f"{name}{end}" for end in ("", ".copy", ".lock"))

        def write(content: bytes) -> None:
            with self._written(content) as (incoming, _, _):
                self._link(incoming, object_, lock=lock)

        try:
            self._persist("write", lambda: write(b"first"))
            passed("write")
            self._persist("write", lambda: write(b"second"))
            with self._in_sentences("write"):
                if object_.read_bytes() != b"first" or not self._excludes(lock):
                    raise StoreError(f"{self.uri} lets a second writer win over the first one", "use another folder.")
                passed("conditional put")
                self._duplicate(object_, copy, lock=lock)
                if copy.read_bytes() != b"first":
                    raise StoreError(f"{self.uri} doesn't copy what it holds", "use another folder.")
                passed("copy")
                object_.unlink()
                passed("delete")
        finally:
            with contextlib.suppress(OSError):
                for file in (object_, copy, lock):
                    file.unlink(missing_ok=True)
            for folder in made:
                with contextlib.suppress(OSError):  # somebody has put something there
                    folder.rmdir()

    def _excludes(self, lock: Path) -> bool:
        """Say whether a lock keeps a second one out."""
        with self._locked(lock), lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def _file(self, path: str) -> Path:
        if checked(path).split("/")[0] == INCOMING:
            raise ValueError(f"{path!r} is where unfinished objects are")
        return self.root / path

    @contextlib.contextmanager
    def _written(self, data: bytes | Path) -> Iterator[tuple[Path, str, int]]:
        """Write the content aside, down to the disk; give the file, its SHA-256 and its size. Remove it afterwards."""
        incoming = self.root / INCOMING / uuid.uuid4().hex
        digest = hashlib.sha256()
        size = 0
        try:
            with self._open(incoming) as file:
                for piece in pieces(data):
                    digest.update(piece)
                    size += file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            yield incoming, digest.hexdigest(), size
        finally:
            incoming.unlink(missing_ok=True)

    def _open(self, incoming: Path) -> BinaryIO:
        make(incoming.parent)
        file = incoming.open("xb")
        self._sweep(os.fstat(file.fileno()).st_mtime)
        return file

    def _link(self, incoming: Path, file: Path, *, lock: Path | None = None) -> bool:
        """Give `incoming` the name `file` unless that is taken; say whether it was free."""
        make(file.parent)
        try:
            file.hardlink_to(incoming)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with self._locked(lock):
                if file.exists():
                    return False
                incoming.rename(file)
        sync(file.parent)
        return True

    def _duplicate(self, source: Path, target: Path, *, lock: Path | None = None) -> None:
        """Give the content of a file a second name, which is free, in the cheapest way that the file system has."""
        if self._reflink(source, target, lock) or self._hard_link(source, target):
            return
        with self._written(source) as (incoming, _, _):
            self._link(incoming, target, lock=lock)

    def _reflink(self, source: Path, target: Path, lock: Path | None) -> bool:
        """Let a new file share the blocks of another one; say whether the file system can."""
        incoming = self.root / INCOMING / uuid.uuid4().hex
        try:
            with source.open("rb") as content, self._open(incoming) as file:
                try:
                    fcntl.ioctl(file.fileno(), FICLONE, content.fileno())
                except OSError:  # each file system has a number of its own for that
                    return False
                os.fsync(file.fileno())
            self._link(incoming, target, lock=lock)
            return True
        finally:
            incoming.unlink(missing_ok=True)

    def _hard_link(self, source: Path, target: Path) -> bool:
        """Link to a file, and take the right to write into it from everybody; say whether the file system can."""
        try:
            mode = stat.S_IMODE(source.stat().st_mode)
            if mode & WRITABLE:
                source.chmod(mode & ~WRITABLE)
            target.hardlink_to(source)
        except OSError as error:
            if error.errno in (*NO_LINKS, errno.EACCES, errno.EMLINK, errno.EXDEV):
                return False
            raise
        return True

    def _rename(self, incoming: Path, file: Path) -> None:
        make(file.parent)
        incoming.replace(file)
        sync(file.parent)

    @contextlib.contextmanager
    def _locked(self, lock: Path | None = None) -> Iterator[None]:
        """Hold the store's one lock. The kernel lets go of it when its holder dies."""
        with (lock or self.root / INCOMING / LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sweep(self, now: float) -> None:
        """Remove, once a process, what killed writers left behind; `now` is by the file system's clock, not by ours."""
        if self._swept:
            return
        self._swept = True
        with contextlib.suppress(FileNotFoundError):  # somebody else tidies too
            for file in (self.root / INCOMING).iterdir():
                with contextlib.suppress(FileNotFoundError, PermissionError):  # it may be another user's
                    if file.name != LOCK and file.stat().st_mtime < now - LEFTOVER_AFTER:
                        file.unlink()

    def _persist(self, doing: str, attempt: Callable[[], T]) -> T:
        """Attempt something, and again whenever a file or a folder went between a look at it and its use.

        Others delete objects, and a probe tidies away the folders that it made.
        """
        with self._in_sentences(doing):
            for _ in range(TIDIED_AWAY):
                try:
                    return attempt()
                except OSError as error:
                    if error.errno not in GONE or not self._is_ours(error):
                        raise
            return attempt()

    def _is_ours(self, error: OSError) -> bool:
        """Say whether an error is about the store or a folder above it, and not about a file outside."""
        file = Path(error.filename) if error.filename else self.root
        return file.is_relative_to(self.root) or self.root.is_relative_to(file)

    @contextlib.contextmanager
    def _in_sentences(self, doing: str) -> Iterator[None]:
        """Say what an error of the operating system means for this store."""
        try:
            yield
        except OSError as error:
            if not self._is_ours(error):
                raise
            raise self._sentence(doing, error) from None

    def _sentence(self, doing: str, error: OSError) -> StoreError:
        where = error.filename or self.uri
        match error.errno:
            case errno.EACCES | errno.EPERM:
                kind = StoreError if doing == "read" else StoreReadOnly
                return kind(f"No permission to {doing} {where}", f"let this user {doing} there, or use another folder.")
            case errno.EROFS:
                return StoreReadOnly(
                    f"{where} is on a read-only file system", "mount it writable, or use another folder."
                )
            case errno.ENOTDIR | errno.EEXIST:
                file = next((path for path in (Path(where), *Path(where).parents) if path.is_file()), where)
                return StoreError(
                    f"{file} is a file where the store needs a folder", "move it away, or use another folder."
                )
            case errno.EISDIR:
                return StoreError(f"{where} is a folder where an object should be", "move it away.")
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                return StoreError(
                    f"{self.uri} is full ({os.strerror(error.errno)})", "free some space and start again."
                )
            case errno.EXDEV:
                return StoreError(f"{where} is on another file system than {self.uri}", "a store must be on one.")
            case errno.ENOLCK | errno.ENOTSUP | errno.ENOSYS:
                return StoreError(f"{self.uri} is on a file system without locks", "use another folder.")
            case _:
                reason = os.strerror(error.errno) if error.errno else str(error)
                return StoreUnreachable(f"{where} can't be reached to {doing} it ({reason})", "is it mounted?")


def digest_of(file: Path) -> tuple[str, int] | None:
    """Give a file's SHA-256 and size, or None when it is absent."""
    try:
        return sha256_of(file)
    except FileNotFoundError:
        return None


def make(folder: Path) -> None:
    """Make a folder and those above it, so that a power cut doesn't take them away again."""
    if folder.is_dir():
        return
    make(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if is_in_the_way(folder):
            raise
        # Somebody made it at the same moment, and may have tidied it away since: whoever uses it sees that.
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Bring a folder's names down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network mounts don't sync folders
            raise
    finally:
        os.close(descriptor)

"""A store in a folder, on a local disk or a network mount, for one machine or several."""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tasks.store import (
    Changed,
    Conflict,
    Damaged,
    Listed,
    Missing,
    Step,
    Store,
    Stored,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
    appearing_whole,
    checked,
    pieces,
    sha256_of,
)

INCOMING = ".incoming"  # files being written, inside the store so that they can be linked into place
LOCK = "lock"  # never removed: a lock on a removed file excludes nobody
LEFTOVER_AFTER = 3600.0  # seconds without a write after which a file in there belongs to nobody
TIDIED_AWAY = 100  # times that a folder may vanish between its making and its use: more is no other run's probe

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

    def uri_of(self, path: str) -> str:
        return str(self._file(path))

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> Stored:
        stored = self.adopt_or_put(path, data, content_type=content_type)
        if stored.adopted and (ours := sha256_of(data)[0]) != stored.sha256:
            raise Conflict(self.uri_of(path), ours=ours, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> Stored:  # noqa: ARG002
        file = self._file(path)
        with self._in_sentences("write"):
            if not file.exists():
                with self._written(data) as (incoming, sha256, size):
                    if self._link(incoming, file):
                        return Stored(path, size, sha256, adopted=False)
            sha256, size = sha256_of(file)
            sync(file.parent)  # the one who linked it may not have come this far, and from now on we rely on it
        return Stored(path, size, sha256, adopted=True)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:  # noqa: ARG002
        file = self._file(path)
        with self._in_sentences("write"), self._written(data) as (incoming, sha256, _), self._locked():
            found = sha256_of(file)[0] if file.exists() else None
            if found == sha256:
                return sha256
            if found != expect:
                raise Changed(self.uri_of(path))
            self._rename(incoming, file)
            return sha256

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:  # noqa: ARG002
        file = self._file(path)
        with self._in_sentences("write"), self._written(data) as (incoming, _, _):
            self._rename(incoming, file)

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        source, target = self._file(path), self._file(to)
        with self._in_sentences("write"):
            if digest_of(target) == (sha256, size):
                sync(target.parent)
                return
            target.unlink(missing_ok=True)
            make(target.parent)
            try:
                self._reflink(source, target) or self._hard_link(source, target) or self._copy(source, target)
            except FileNotFoundError:
                if source.exists():
                    raise
                raise Missing(self.uri_of(path)) from None
            if digest_of(target) != (sha256, size):
                target.unlink(missing_ok=True)
                raise Damaged(self.uri_of(path))
            sync(target.parent)

    def read(self, path: str) -> tuple[bytes, str] | None:
        file = self._file(path)
        with self._in_sentences("read"):
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                return None
        return content, hashlib.sha256(content).hexdigest()

    def download(self, path: str, to: Path) -> str | None:
        file = self._file(path)
        digest = hashlib.sha256()
        with self._in_sentences("read"):
            if not file.exists():
                return None
            with appearing_whole(to) as copy:
                for piece in pieces(file):
                    digest.update(piece)
                    copy.write(piece)
        return digest.hexdigest()

    def exists(self, path: str) -> bool:
        file = self._file(path)
        with self._in_sentences("read"):
            return file.exists()

    def delete(self, path: str) -> None:
        file = self._file(path)
        with self._in_sentences("delete"):
            file.unlink(missing_ok=True)

    def listing(self, prefix: str) -> Iterator[Listed]:
        folders = [self._file(prefix) if prefix else self.root]
        with self._in_sentences("read"):
            while folders:
                for entry in entries(folders.pop()):
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != INCOMING:
                            folders.append(Path(entry.path))
                        continue
                    with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                        seen = entry.stat()
                        path = Path(entry.path).relative_to(self.root).as_posix()
                        yield Listed(path, seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC))

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        with self._in_sentences("read"):
            made = [folder for folder in (self.root / INCOMING, self.root, *self.root.parents) if not folder.exists()]
        passed("reach")
        object_, lock = (self.root / INCOMING / f"probe-{uuid.uuid4().hex}{end}" for end in ("", ".lock"))
        try:
            with self._in_sentences("write"):
                for turn in ("first", "second"):
                    with self._written(turn.encode()) as (incoming, _, _):
                        self._link(incoming, object_, lock=lock)
                    if turn == "first":
                        passed("write")
                if object_.read_bytes() != b"first":
                    raise StoreError(f"{self.uri} lets a second writer win over the first one: use another folder.")
                with self._locked(lock):
                    pass
                passed("conditional put")
                object_.unlink()
                passed("delete")
        finally:
            with contextlib.suppress(OSError):
                object_.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
            for folder in made:
                with contextlib.suppress(OSError):  # somebody has put something there
                    folder.rmdir()

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
        for _ in range(TIDIED_AWAY):
            with contextlib.suppress(FileNotFoundError):  # the probe of another run has just tidied a folder away
                make(incoming.parent)
                self._sweep()
                return incoming.open("xb")
        make(incoming.parent)
        return incoming.open("xb")

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

    def _reflink(self, source: Path, target: Path) -> bool:
        """Let a new file share the blocks of another one, where the file system can; say whether it did."""
        incoming = self.root / INCOMING / uuid.uuid4().hex
        try:
            with source.open("rb") as content, self._open(incoming) as file:
                try:
                    fcntl.ioctl(file.fileno(), FICLONE, content.fileno())
                except OSError:  # each file system has its own number for "can't"
                    return False
                os.fsync(file.fileno())
            self._link(incoming, target)
            return True
        finally:
            incoming.unlink(missing_ok=True)

    def _hard_link(self, source: Path, target: Path) -> bool:
        """Give a file a second name, and take from everybody the right to write into it; say whether that worked."""
        try:
            mode = source.stat().st_mode
            if mode & WRITABLE:
                source.chmod(stat.S_IMODE(mode) & ~WRITABLE)
            target.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (*NO_LINKS, errno.EACCES, errno.EMLINK, errno.EXDEV):
                return False
            raise
        return True

    def _copy(self, source: Path, target: Path) -> bool:
        with self._written(source) as (incoming, _, _):
            return self._link(incoming, target)

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

    def _sweep(self) -> None:
        """Remove, once a process, what killed writers left behind."""
        if self._swept:
            return
        self._swept = True
        old = time.time() - LEFTOVER_AFTER
        with contextlib.suppress(FileNotFoundError):  # somebody else tidies too
            for file in (self.root / INCOMING).iterdir():
                if file.name != LOCK and file.stat().st_mtime < old:
                    file.unlink()

    @contextlib.contextmanager
    def _in_sentences(self, doing: str) -> Iterator[None]:
        """Say what an error of the operating system means for this store."""
        try:
            yield
        except OSError as error:
            if error.filename is not None and not Path(error.filename).is_relative_to(self.root):
                raise  # the content to write, or the file to download to: not the store's fault
            raise self._sentence(doing, error) from None

    def _sentence(self, doing: str, error: OSError) -> StoreError:
        where = error.filename or self.uri
        match error.errno:
            case errno.EACCES | errno.EPERM:
                kind = StoreError if doing == "read" else StoreReadOnly
                return kind(f"No permission to {doing} {where}: let this user {doing} there, or use another folder.")
            case errno.EROFS:
                return StoreReadOnly(
                    f"{where} is on a read-only file system: mount it writable, or use another folder."
                )
            case errno.ENOTDIR | errno.EEXIST:
                file = next((path for path in (Path(where), *Path(where).parents) if path.is_file()), where)
                return StoreError(
                    f"{file} is a file where the store needs a folder: move it away, or use another folder."
                )
            case errno.EISDIR:
                return StoreError(f"{where} is a folder where an object should be: move it away.")
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                return StoreError(f"{self.uri} is full ({os.strerror(error.errno)}): free some space and start again.")
            case errno.EXDEV:
                return StoreError(f"{where} is on another file system than {self.uri}: a store must be on one.")
            case errno.ENOLCK | errno.ENOTSUP | errno.ENOSYS:
                return StoreError(f"{self.uri} is on a file system without locks: use another folder.")
            case _:
                reason = os.strerror(error.errno) if error.errno else str(error)
                return StoreUnreachable(f"{where} can't be reached to {doing} it ({reason}): is it mounted?")


def digest_of(file: Path) -> tuple[str, int] | None:
    """Give a file's SHA-256 and size, or None when it is absent."""
    try:
        return sha256_of(file)
    except FileNotFoundError:
        return None


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Give what lies in a folder; nothing when it is absent."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def make(folder: Path) -> None:
    """Make a folder and those above it, so that a power cut doesn't take them away again."""
    if folder.is_dir():
        return
    make(folder.parent)
    folder.mkdir(exist_ok=True)
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

"""Temporary folders: each is somebody's for as long as its lock is held, and nobody's from then on."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, LOCK = "packshot-", ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoTemporaryRoom(Exception):  # noqa: N818
    """There is no room, or no place, for temporary files. One sentence."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder for as long as the block takes. What killed processes left behind is cleared before.

    A file beside the folder, `packshot-ab12.lock`, is locked (flock) as long as the folder is in use. The system lets
    go of the lock when its holder is gone, however that ended, so neither an age nor a process's number has to be
    believed. The lock is taken before the folder is made and given up after it was removed: whenever a process is
    killed, the next one finds all that it left.

    Raises:
        NoTemporaryRoom: if none can be made, or it has no room for what the block writes.
    """
    try:
        clear_abandoned()
        file, lock = _made()
    except OSError as error:
        why = error.strerror or str(error)
        raise NoTemporaryRoom(
            f"No folder for temporary files can be made ({why}): set TMPDIR to one that can be written."
        ) from error
    try:
        yield _folder_of(file)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoTemporaryRoom(
            f"The folder for temporary files, {file.parent}, is full ({os.strerror(error.errno)}): free some space "
            "there, or set TMPDIR to a larger one, and start again."
        ) from error
    finally:
        _remove(file)
        os.close(lock)


def clear_abandoned() -> None:
    """Remove the temporary folders that nobody holds any more."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}"):
        with suppress(OSError):  # somebody else's, or cleared at this moment by another process
            _clear(file)


def _clear(file: Path) -> None:
    lock = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(lock)
        if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode) and _is_taken(lock, file):
            _remove(file)
    finally:
        os.close(lock)


def _made() -> tuple[Path, int]:
    """The file of a new folder, and the lock on it."""
    while True:
        lock, name = tempfile.mkstemp(prefix=PREFIX, suffix=LOCK)
        file = Path(name)
        # Whoever clears may have seen the file before it was locked, and have taken it for abandoned.
        if _is_taken(lock, file):
            try:
                _folder_of(file).mkdir(mode=0o700)
            except FileExistsError:  # somebody else's
                file.unlink()
            else:
                return file, lock
        os.close(lock)


def _is_taken(lock: int, file: Path) -> bool:
    """Lock a file, unless somebody else has; False also where it was removed before that."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), file.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(file: Path) -> None:
    """Remove a folder and then its file; where the folder can't be removed, the file stays for the next one's try."""
    shutil.rmtree(_folder_of(file), ignore_errors=True)
    if not _folder_of(file).exists():
        file.unlink()


def _folder_of(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(LOCK))

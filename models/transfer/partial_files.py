"""A folder for the parts of files that are on their way, for one process at a time."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from models.files.in_the_way import is_in_the_way
from models.files.safetensors_files import CheckpointUnreachable

LOCK = "lock"
MOST_REMOVED = 100  # times that others may remove the folder as it is made: more is nobody else's work


@contextlib.contextmanager
def parts_folder(folder: Path, busy: Callable[[], None]) -> Iterator[Path]:
    """Have `folder` to oneself; when the block ends well it is removed with whatever is in it.

    Otherwise its parts stay, to be gone on with.

    Args:
        folder: is made if it isn't there, with those above it.
        busy: is called before waiting for another process to be done with it.

    Raises:
        CheckpointUnreachable: if the disk doesn't take what is written in the block.
    """
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        with _locked(folder, busy):
            try:
                yield folder
                _clear(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
                    for one in made:
                        one.rmdir()  # as far as they are empty
                raise
    except OSError as error:
        where, reason = error.filename or folder, error.strerror or str(error)
        raise CheckpointUnreachable(
            f"{where} can't be written ({reason})", "mend that, or give another place."
        ) from None


@contextlib.contextmanager
def _locked(folder: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock, of which the kernel lets go when its holder dies.

    On a file system without locks everybody holds it: two processes may then write one part, which shows when its
    content is compared with its hash.
    """
    removed = 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("ab")
        except (FileNotFoundError, FileExistsError) as error:
            removed += 1
            if is_in_the_way(Path(error.filename)) or removed > MOST_REMOVED:
                raise
            continue  # the one before us has just removed the folder, or one above it that it had made
        with lock:
            _wait_for(lock, busy)
            if not _is_at(lock, folder / LOCK):
                continue  # it removed the folder while we waited
            yield
            return


def _clear(folder: Path) -> None:
    """Remove the folder, its lock last: without it the folder is the next one's, who may be in it by now."""
    for inside in folder.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        elif inside.name != LOCK:
            inside.unlink()
    (folder / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _wait_for(lock: BinaryIO, busy: Callable[[], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy()
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass


def _is_at(lock: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False

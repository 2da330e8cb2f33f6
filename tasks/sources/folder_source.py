"""A picture in the manifest's folder, and nowhere else on this machine."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tasks.sources.source_error import SourceError, too_large
from tasks.stores.store import checked

ABSENT = (errno.ENOENT, errno.ENAMETOOLONG)
# What openat(2) answers for a link or a file where a folder has to be: the path led elsewhere when it was looked at.
LEADS_AWAY = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_inside(folder: Path, path: str, limit: int) -> bytes:
    """Return the content of the regular file at `path`, relative to `folder`, of at most `limit` bytes.

    Links are followed as long as they stay inside the folder. The path is resolved first, and then walked again
    without following any link: a folder that is exchanged for a link meanwhile isn't entered.

    Raises:
        SourceError: the path is absolute, has `..`, leads out of the folder, or names no regular file; or the file
            is too large or can't be read.
    """
    try:
        plain = checked(path.removeprefix("./"))
    except ValueError:
        raise SourceError(
            "source_not_allowed",
            f"The path {path[:200]!r} isn't a plain one: it is relative to the manifest's folder, without '..'.",
        ) from None
    try:
        root = folder.resolve(strict=True)
        target = (root / plain).resolve(strict=True)
        if not target.is_relative_to(root):
            raise SourceError("source_not_allowed", f"The path {path[:200]!r} leads out of the manifest's folder.")
        return _read(root, target.relative_to(root).parts, path[:200], limit)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise _sentence(path[:200], error) from None


def _read(root: Path, parts: tuple[str, ...], path: str, limit: int) -> bytes:
    folder = os.open(root, FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Looked at before it is opened: opening a device can do something.
        if not parts or not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            raise SourceError("source_not_allowed", f"{path!r} isn't a regular file.")
        with open(os.open(parts[-1], FILE, dir_fd=folder), "rb") as file:  # noqa: PTH123  a descriptor has no path
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SourceError("source_not_allowed", f"{path!r} isn't a regular file.")
            data = file.read(limit + 1)
    finally:
        os.close(folder)
    if len(data) > limit:
        raise too_large(f"The file {path!r}", limit)
    return data


def _sentence(path: str, error: OSError | RuntimeError) -> SourceError:
    number = error.errno if isinstance(error, OSError) else errno.ELOOP
    if number in ABSENT:
        return SourceError("source_not_found", f"There is no file {path!r} in the manifest's folder.")
    if number in LEADS_AWAY:
        return SourceError("source_not_allowed", f"The path {path!r} doesn't lead to a file in the manifest's folder.")
    reason = os.strerror(number) if number else str(error)
    passing = number not in (errno.EACCES, errno.EPERM)
    return SourceError("source_unreachable", f"The file {path!r} can't be read: {reason}.", retryable=passing)

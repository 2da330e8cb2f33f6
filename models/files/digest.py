"""SHA-256 of the contents of folders and files, remembered so that 60 GB aren't read twice."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.files import cache_file
from models.files.cache_file import cache_folder


def digest(folder: Path, files: Sequence[Path]) -> str:
    """Hash the names and contents of `files`, which lie under `folder`; where the folder lies doesn't matter.

    A file whose size and modification time are those of last time is taken as unchanged. The memory lives in the
    user's cache folder; where that can't be written, everything is hashed again.
    """
    found = hashes(folder, files)
    listing = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
    return hashlib.sha256(listing.encode()).hexdigest()


def hashes(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file under `folder`, by its name there; remembered as by `digest`."""
    return _hashes(folder, files, remembered_for=folder)


def remember(folder: Path, found: Mapping[str, str]) -> None:
    """Have `digest` and `hashes` know the SHA-256 of files under `folder` that were just read, by their names there."""
    memory = _memory(folder)
    cache_file.remember(
        memory, _recall(memory) | {name: (_stamp(folder / name), sha256) for name, sha256 in found.items()}
    )


def file_digest(file: Path) -> str:
    """Hash the contents of one file, whatever it is called; remembered as by `digest`."""
    return _hashes(file.parent, [file], remembered_for=file)[file.name]


def _hashes(folder: Path, files: Sequence[Path], *, remembered_for: Path) -> dict[str, str]:
    """The hash of each file, by its name under `folder`."""
    memory = _memory(remembered_for)
    known = _recall(memory)
    names = {file.relative_to(folder).as_posix(): file for file in files}
    stamps = {name: _stamp(file) for name, file in names.items()}
    unknown = [name for name in names if known.get(name, ("", ""))[0] != stamps[name]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashlib lets go of the GIL
        hashed = dict(zip(unknown, threads.map(lambda name: _hash(names[name]), unknown), strict=True))
    found = {name: hashed.get(name) or known[name][1] for name in names}
    if unknown:
        cache_file.remember(memory, known | {name: (stamps[name], found[name]) for name in names})
    return found


def _memory(remembered_for: Path) -> Path:
    name = hashlib.sha256(str(remembered_for.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _recall(memory: Path) -> dict[str, tuple[str, str]]:
    try:
        return {name: (stamp, digest) for name, (stamp, digest) in cache_file.recall(memory).items()}
    except (ValueError, TypeError):
        return {}

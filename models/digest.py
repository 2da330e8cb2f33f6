"""SHA-256 of the contents of folders and files, remembered so that 60 GB aren't read twice."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path


def digest(folder: Path, files: Sequence[Path]) -> str:
    """Hash the names and contents of `files`, which lie under `folder`; where the folder lies doesn't matter.

    A file whose size and modification time are those of last time is taken as unchanged. The memory lives in the
    user's cache folder; where that can't be written, everything is hashed again.
    """
    hashes = _hashes(folder, files, remembered_for=folder)
    listing = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(listing.encode()).hexdigest()


def file_digest(file: Path) -> str:
    """Hash the contents of one file, whatever it is called; remembered as by `digest`."""
    return _hashes(file.parent, [file], remembered_for=file)[file.name]


def cache_folder() -> Path:
    """packshot's folder under XDG_CACHE_HOME (XDG Base Directory Specification 0.8)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "packshot"


def _hashes(folder: Path, files: Sequence[Path], *, remembered_for: Path) -> dict[str, str]:
    """The hash of each file, by its name under `folder`."""
    memory_name = hashlib.sha256(str(remembered_for.resolve()).encode()).hexdigest()[:32]
    memory = cache_folder() / "digests" / f"{memory_name}.json"
    known = _recall(memory)
    names = {file.relative_to(folder).as_posix(): file for file in files}
    stamps = {name: f"{(stat := file.stat()).st_size} {stat.st_mtime_ns}" for name, file in names.items()}
    unknown = [name for name in names if known.get(name, ("", ""))[0] != stamps[name]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashlib lets go of the GIL
        hashed = dict(zip(unknown, threads.map(lambda name: _hash(names[name]), unknown), strict=True))
    hashes = {name: hashed.get(name) or known[name][1] for name in names}
    if unknown:
        _remember(memory, {name: (stamps[name], hashes[name]) for name in names})
    return hashes


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _recall(memory: Path) -> dict[str, tuple[str, str]]:
    try:
        return {name: (stamp, digest) for name, (stamp, digest) in json.loads(memory.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(memory: Path, entries: dict[str, tuple[str, str]]) -> None:
    with suppress(OSError):  # a read-only home costs time, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, suffix=".part", delete=False) as part:
            json.dump(entries, part)
        Path(part.name).replace(memory)  # whole or not at all: lanes start side by side

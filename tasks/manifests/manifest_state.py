"""What a manifest looked like at one moment, without reading it: told apart from later, never compared in order."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG

from tasks.manifests.fetch import is_parquet_name, plain_address
from tasks.manifests.key import digest
from tasks.stores.opening import is_store_address, open_store, store_around


def manifest_state(address: str) -> str:
    """Name the state of a manifest's files: their sizes, and when they were written or what their store calls that.

    Raises:
        ManifestError: if the address is of a kind that isn't read.
        StoreError: if the bucket is out of reach.
    """
    plain = plain_address(address)
    if is_store_address(plain):
        return digest(_in_store(plain.rstrip("/")))
    try:
        path = Path(plain).expanduser()
        inside = path.rglob("*") if path.is_dir() else None
        files = [path] if inside is None else sorted(f for f in inside if _may_be_read(str(f.relative_to(path))))
        return digest([[str(file), *_written(file)] for file in files])
    except (OSError, RuntimeError, ValueError):  # what can't be read is refused where it is read
        return digest(plain)


def _in_store(address: str) -> list[list[str | int | None]]:
    if (around := store_around(address)) is not None:
        store, name = around
        if is_parquet_name(name) or store.exists(name):
            return [[name, store.version(name)]]
    listed = open_store(address).listing("")
    return sorted([one.path, one.size, one.modified.isoformat()] for one in listed if _may_be_read(one.path))


def _may_be_read(name: str) -> bool:
    """Say whether a file of a folder may be one of the manifest's: see `tasks.manifests.fetch`."""
    *_, last = parts = name.split("/")
    return not any(part.startswith((".", "_")) for part in parts) and ("." not in last or is_parquet_name(last))


def _written(file: Path) -> list[int]:
    try:
        found = file.stat()
    except (OSError, ValueError):  # gone
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino] if S_ISREG(found.st_mode) else []

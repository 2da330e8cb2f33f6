"""What a manifest looked like at one moment, without reading it: told apart from later, never compared in order."""

from __future__ import annotations

from pathlib import Path

from tasks.key import digest
from tasks.store import open_store


def manifest_state(address: str) -> str:
    """Name the state of a manifest's files: their sizes, and when they were written or what their bucket calls that.

    Raises:
        StoreError: if the bucket is out of reach.
    """
    if address.startswith("s3://"):
        return digest(_in_bucket(address))
    path = Path(address).expanduser()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return digest([[str(file), *_written(file)] for file in files])


def _in_bucket(address: str) -> list[list[str | int | None]]:
    from tasks.s3_store import S3Store  # imports boto3

    parent, _, name = address.rpartition("/")
    if name.endswith(".parquet"):
        store = open_store(parent)
        assert isinstance(store, S3Store)
        return [[name, store.version(name)]]
    return sorted([one.path, one.size, one.modified.isoformat()] for one in open_store(address).listing(""))


def _written(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:  # gone
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]

"""What a manifest looked like at one moment, without reading it: told apart from later, never compared in order."""

from __future__ import annotations

from pathlib import Path

from tasks.fetch import plain_address
from tasks.key import digest
from tasks.store import open_store


def manifest_state(address: str) -> str:
    """Name the state of a manifest's files: their sizes, and when they were written or what their bucket calls that.

    Raises:
        ManifestError: if the address is of a kind that isn't read.
        StoreError: if the bucket is out of reach.
    """
    plain = plain_address(address)
    if plain.startswith("s3://"):
        return digest(_in_bucket(plain.rstrip("/")))
    try:
        path = Path(plain).expanduser()
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return digest([[str(file), *_written(file)] for file in files])
    except (OSError, RuntimeError, ValueError):  # what can't be read is refused where it is read
        return digest([])


def _in_bucket(address: str) -> list[list[str | int | None]]:
    from tasks.s3_store import S3Store  # imports boto3

    parent, _, name = address.rpartition("/")
    if parent != "s3:/":
        store = open_store(parent)
        assert isinstance(store, S3Store)
        if (version := store.version(name)) is not None:
            return [[name, version]]
    return sorted([one.path, one.size, one.modified.isoformat()] for one in open_store(address).listing(""))


def _written(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:  # gone
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]

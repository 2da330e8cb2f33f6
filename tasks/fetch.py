"""Manifest files onto this machine's disk: a path, a folder of Parquet files, or an s3:// address."""

from __future__ import annotations

from pathlib import Path

from tasks.manifest import ManifestError
from tasks.store import open_store


def fetch_manifest(address: str, folder: Path) -> tuple[Path, ...]:
    """The manifest's files, in order of name; those of a bucket are downloaded into `folder`.

    Raises:
        ManifestError: if there is nothing at the address.
        StoreError: if the bucket is out of reach.
    """
    if address.startswith("s3://"):
        return _downloaded(address, folder)
    path = Path(address).expanduser()
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*.parquet") if file.is_file()))
    if not path.exists():
        raise ManifestError(f"There is no manifest {address}.")
    return (path,)


def _downloaded(address: str, folder: Path) -> tuple[Path, ...]:
    parent, _, name = address.rpartition("/")
    if name.endswith(".parquet"):
        store, names = open_store(parent), [name]
    else:
        from tasks.s3_store import S3Store  # imports boto3

        store = open_store(address)
        assert isinstance(store, S3Store)
        names = [name for name in store.names() if name.endswith(".parquet")]
    files = []
    for number, name in enumerate(names):
        file = folder / f"{number:05}.parquet"
        if store.download(name, file) is None:
            raise ManifestError(f"There is no manifest {address}.")
        files.append(file)
    return tuple(files)

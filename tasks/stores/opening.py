"""Stores by their addresses: which kind one is, and what is wrong with an address that is none."""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tasks.stores.dialect import Dialect

if TYPE_CHECKING:
    pass
from tasks.stores.store import Store, StoreAddressError, checked


def open_store(uri: str, *, allow_unsafe: bool = False, dialect: Dialect | None = None) -> Store:
    """Give the store at `s3://bucket/prefix`, `file:///folder` or a folder's path. Touches neither disk nor network.

    `dialect` is that of the same store, where it was probed. `allow_unsafe` accepts an S3 store that ignores
    conditional writes: there, two runs at once can overwrite each other's work.

    Raises:
        StoreAddressError: the address is of another kind; the message says what to write.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if re.match(r"(s3|file):", uri, re.IGNORECASE):
            raise StoreAddressError(f"{uri!r} lacks a slash: write s3://bucket/prefix or file:///folder.")
        if not uri.strip():
            raise StoreAddressError("The store's address is empty: write s3://bucket/prefix or a folder.")
        return _folder(Path(uri))
    match scheme.lower():
        case "s3":
            return _bucket(rest, allow_unsafe, dialect)
        case "file":
            host, slash, path = rest.partition("/")
            if host not in ("", "localhost") or not slash:
                raise StoreAddressError(f"{uri!r} names a folder on another machine: write file:///folder.")
            return _folder(Path("/" + unquote(path)))
        case "http" | "https":
            raise StoreAddressError(
                f"A store isn't named by an {scheme}:// address: write s3://bucket/prefix, and put the server's "
                "address into AWS_ENDPOINT_URL."
            )
        case _:
            raise StoreAddressError(f"{scheme}:// stores aren't supported: write s3://bucket/prefix or a folder.")


def _folder(root: Path) -> Store:
    from tasks.stores.folder_store import FolderStore

    try:
        return FolderStore(root.expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreAddressError(f"{str(root)!r} can't be the path of a folder: {error}.") from None


def _bucket(rest: str, allow_unsafe: bool, dialect: Dialect | None) -> Store:
    from tasks.stores.s3_store import S3Store

    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:  # not repeated in the message: there may be a secret in it
        raise StoreAddressError("Credentials don't belong into the store's address: use AWS_ACCESS_KEY_ID and so on.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise StoreAddressError(f"{bucket!r} isn't the name of a bucket: write s3://bucket/prefix.")
    prefix = prefix.strip("/")
    try:
        return S3Store(bucket, checked(prefix) if prefix else "", allow_unsafe=allow_unsafe, dialect=dialect)
    except ValueError:
        raise StoreAddressError(f"{prefix!r} isn't a plain prefix: write s3://bucket/folder/folder.") from None

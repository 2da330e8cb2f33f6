"""Stores by their addresses: which kind one is, and what is wrong with an address that is none.

A further kind of store is registered in `SCHEMES`, and nothing else asks which kind one is.
"""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from tasks.stores.dialect import Dialect
from tasks.stores.store import Store, StoreAddressError, checked

Opener = Callable[[str, bool, Dialect | None], Store]
"""Gives a store by what follows its scheme; whether one that ignores conditions will do; and its dialect, if known.

Raises StoreAddressError, and touches neither disk nor network.
"""


def open_store(uri: str, *, allow_unsafe: bool = False, dialect: Dialect | None = None) -> Store:
    """Give the store at `s3://bucket/prefix`, `file:///folder` or a folder's path. Touches neither disk nor network.

    `dialect` is that of the same store, where it was probed. `allow_unsafe` accepts an S3 store that ignores
    conditional writes: there, two runs at once can overwrite each other's work.

    Raises:
        StoreAddressError: the address is of another kind; the message says what to write.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        begun = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
        if begun and begun[1].lower() in (*SCHEMES, "file"):
            raise StoreAddressError(f"{uri!r} lacks a slash", "write s3://bucket/prefix or file:///folder.")
        if not uri.strip():
            raise StoreAddressError("The store's address is empty", "write s3://bucket/prefix or a folder.")
        return _folder(Path(uri))
    if (opener := SCHEMES.get(scheme.lower())) is not None:
        return opener(rest, allow_unsafe, dialect)
    match scheme.lower():
        case "file":
            host, slash, path = rest.partition("/")
            if host not in ("", "localhost") or not slash:
                raise StoreAddressError(f"{uri!r} names a folder on another machine", "write file:///folder.")
            return _folder(Path("/" + unquote(path)))
        case "http" | "https":
            raise StoreAddressError(
                f"A store isn't named by an {scheme}:// address",
                "write s3://bucket/prefix, and put the server's address into AWS_ENDPOINT_URL.",
            )
        case _:
            raise StoreAddressError(f"{scheme}:// stores aren't supported", "write s3://bucket/prefix or a folder.")


def store_scheme(name: str) -> str | None:
    """Give the scheme of a store, other than a folder's, by its name or by what others call it; None if it is none."""
    name = CALLED.get(name.lower(), name.lower())
    return name if name in SCHEMES else None


def is_store_address(address: str) -> bool:
    """Say whether an address names a store, or an object in one, by a scheme, and no folder of this machine."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def parted(address: str) -> tuple[str, str]:
    """Part an address of a store, or of an object, into the outermost store, `s3://bucket`, and the path there."""
    scheme, _, rest = address.partition("://")
    outermost, _, path = rest.partition("/")
    return f"{scheme.lower()}://{outermost}", path


def store_around(address: str) -> tuple[Store, str] | None:
    """Give the store that an object lies in, by the object's address, and its name there; None if it can't be one.

    Raises:
        StoreAddressError: as `open_store`.
    """
    outermost, path = parted(address)
    parent, _, name = path.rpartition("/")
    return (open_store(f"{outermost}/{parent}"), name) if name else None


def _folder(root: Path) -> Store:
    from tasks.stores.folder_store import FolderStore

    try:
        return FolderStore(root.expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreAddressError(f"{str(root)!r} can't be the path of a folder: {error}.") from None


def _bucket(rest: str, allow_unsafe: bool, dialect: Dialect | None) -> Store:
    from tasks.stores.s3_store import S3Store  # imports boto3

    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:  # not repeated in the message: there may be a secret in it
        raise StoreAddressError("Credentials don't belong into the store's address", "use AWS_ACCESS_KEY_ID and so on.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket):
        raise StoreAddressError(f"{bucket!r} isn't the name of a bucket", "write s3://bucket/prefix.")
    prefix = prefix.strip("/")
    try:
        return S3Store(bucket, checked(prefix) if prefix else "", allow_unsafe=allow_unsafe, dialect=dialect)
    except ValueError:
        raise StoreAddressError(f"{prefix!r} isn't a plain prefix", "write s3://bucket/folder/folder.") from None


SCHEMES: dict[str, Opener] = {"s3": _bucket}
"""What opens the stores that a scheme names; a folder is named by its path, or by `file`."""
CALLED = {"s3a": "s3", "s3n": "s3"}
"""Schemes by what Spark and Hadoop call them."""

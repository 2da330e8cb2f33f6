"""Where a manifest's pictures come from: the row itself, the manifest's folder, a bucket, the web."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from tasks.manifests.fetch import is_parquet_name, plain_address
from tasks.sources.folder_source import read_inside
from tasks.sources.source_error import SourceError, too_large
from tasks.sources.web_source import WebSource
from tasks.stores.opening import SCHEMES, is_store_address, open_store, parted
from tasks.stores.store import StoreAddressError, StoreError, StoreUnreachable

LARGEST = 64 << 20  # bytes of a source picture: an uncompressed TIFF of 22 megapixels
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def folder_of(manifest: str) -> str:
    """Return the folder that a manifest's relative paths begin in: where the file lies, or the folder that it is.

    `s3://bucket/prefix`, or an absolute path.
    """
    manifest = plain_address(manifest)
    if is_store_address(manifest):
        return manifest.rpartition("/")[0] if is_parquet_name(manifest) else manifest.rstrip("/")
    path = Path(manifest).expanduser().absolute()
    return str(path if path.is_dir() else path.parent)


class Sources:
    """Reads the pictures that rows name; safe to use from many threads."""

    def __init__(self, folder: str, *, web: WebSource, limit: int = LARGEST) -> None:
        """Read paths relative to `folder` (see `folder_of`), and at most `limit` bytes of each picture."""
        self.folder = folder
        self.web = web
        self.limit = limit
        self._store = functools.lru_cache(maxsize=64)(open_store)

    def read(self, image: str | bytes) -> bytes:
        """Return the bytes of one row's picture.

        `image` is the bytes themselves, a path relative to the manifest's folder, an `s3://bucket/key`, or an
        `http(s)://` address on a host that the job names. A path beside a manifest in a bucket is a key beside it.

        Raises:
            SourceError: with its reason; `retryable` if the same address may do another time.
        """
        if isinstance(image, bytes):
            if len(image) > self.limit:
                raise too_large("The picture", self.limit)
            return image
        if not image.strip() or CONTROL.search(image):
            raise SourceError("bad_value", "The picture's address is empty, or holds control characters.")
        scheme = SCHEME.match(image)
        match scheme and scheme[1].lower():
            case None if is_store_address(self.folder):
                return self._object(self.folder, image.removeprefix("./"))
            case None:
                return read_inside(Path(self.folder), image, self.limit)
            case "http" | "https":
                return self.web.read(image, self.limit)
            case name if name in SCHEMES:
                return self._object(*parted(image))
            case other:
                raise SourceError(
                    "source_not_allowed",
                    f"Pictures aren't read from {other}: addresses: write a path beside the manifest, an s3:// "
                    "address, or an https:// address on one of the job's image_hosts.",
                )

    def _object(self, folder: str, path: str) -> bytes:
        if not path:
            raise SourceError("bad_value", "The picture's address is that of a bucket: write s3://bucket/key.")
        try:
            data = self._store(folder).read_at_most(path, self.limit)
        except StoreAddressError as error:
            raise SourceError("bad_value", str(error)) from None
        except StoreError as error:
            retryable = isinstance(error, StoreUnreachable)
            raise SourceError("source_unreachable", str(error), retryable=retryable) from None
        except ValueError:
            raise SourceError(
                "source_not_allowed", f"The key {path[:200]!r} isn't a plain one: without '..' and empty parts."
            ) from None
        if data is None:
            raise SourceError("source_not_found", f"There is no object {folder}/{path}.")
        if len(data) > self.limit:
            raise too_large(f"{folder}/{path}", self.limit)
        return data

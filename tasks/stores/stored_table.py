"""Tables and documents that lie in the store, of which one that is damaged is named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.stores.store import StoreError


@contextmanager
def naming(uri: str, remedy: str) -> Iterator[None]:
    """Have the block, which reads what lies at `uri`, say so where that is damaged, and what to do about it.

    Raises:
        StoreError: Arrow raises OSError for a page that doesn't unpack, and its own errors for all else.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{uri} is damaged or cut off and can't be read", f"{remedy}.") from error


def read_table(content: bytes | Path, uri: str, remedy: str, **options: Any) -> pa.Table:
    """Read a Parquet file that lies at `uri`, from its bytes or a copy of it.

    Raises:
        StoreError: as `naming`.
    """
    with naming(uri, remedy):
        return pq.read_table(io.BytesIO(content) if isinstance(content, bytes) else content, **options)


def read_document(content: bytes, uri: str, remedy: str) -> Any:
    """Read a JSON document that lies at `uri`.

    Raises:
        StoreError: as `naming`.
    """
    with naming(uri, remedy):
        return json.loads(content)

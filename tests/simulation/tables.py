"""Tables in a simulation pass as they are: most of its time would go into writing and reading them as Parquet.

What is written is a number, and what is read is the very table that has this number. Plans, which are files, stay
Parquet; so do the stores of every other test.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MARK = b"table "


@contextmanager
def passing_as_they_are() -> Iterator[None]:
    """Write tables in memory as numbers, as long as this lasts."""
    read, write, tables = pq.read_table, pq.write_table, list[pa.Table]()

    def write_table(table: pa.Table, sink: Any, **options: Any) -> None:
        if not isinstance(sink, io.BytesIO):
            write(table, sink, **options)
            return
        sink.write(MARK + str(len(tables)).encode())
        tables.append(table)

    def read_table(source: Any, columns: list[str] | None = None, **options: Any) -> pa.Table:
        if not isinstance(source, io.BytesIO) or not source.getvalue().startswith(MARK):
            return read(source, columns=columns, use_threads=False, **options)
        table = tables[int(source.getvalue().removeprefix(MARK))]
        return table if columns is None else table.select(columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "read_table", read_table)
        patch.setattr(pq, "write_table", write_table)
        yield

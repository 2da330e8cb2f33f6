"""Tables in a simulation pass as they are: most of its time would go into writing and reading them as Parquet.

What is written is a number, and what is read is the very table that has this number. The stores of every other test
hold Parquet.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

MARK = b"table "


class Numbered:
    """Tables by their numbers, in the place of files and buffers of Parquet."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._read_parquet, self._open_parquet = pq.read_table, pq.ParquetFile

    def write_table(self, table: pa.Table, sink: io.BytesIO, **_: Any) -> None:
        sink.write(self.written(table))

    def written(self, table: pa.Table) -> bytes:
        self._tables.append(table)
        return MARK + str(len(self._tables) - 1).encode()

    def read_table(
        self, source: io.BytesIO | Path, columns: list[str] | None = None, filters: Any = None, **options: Any
    ) -> pa.Table:
        table = self._found(source)
        if table is None:  # damaged, as some tests leave it
            return self._read_parquet(source, columns=columns, filters=filters, use_threads=False, **options)
        for column, equals, value in filters or ():
            assert equals == "="
            table = table.filter(pc.equal(table.column(column), value))  # an expression would start threads
        return table if columns is None else table.select(columns)

    def read_schema(self, source: Path) -> pa.Schema:
        table = self._found(source)
        assert table is not None
        return table.schema

    def open(self, source: io.BytesIO | pa.BufferReader) -> Any:
        table = self._found(source)
        if table is None:
            return self._open_parquet(source)
        metadata = SimpleNamespace(metadata=table.schema.metadata)
        return SimpleNamespace(metadata=metadata, read=lambda columns=None: table.select(columns or table.column_names))

    def _found(self, source: io.BytesIO | pa.BufferReader | Path) -> pa.Table | None:
        if isinstance(source, pa.BufferReader):
            content = source.read()
            source.seek(0)
        else:
            content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
        return self._tables[int(content.removeprefix(MARK))] if content.startswith(MARK) else None


class Writer:
    """A file that is written table by table, as `pyarrow.parquet.ParquetWriter` does it."""

    def __init__(self, numbered: Numbered, file: Path, schema: pa.Schema, **_: Any) -> None:
        self._numbered, self._file, self._schema = numbered, file, schema
        self._parts: list[pa.Table] = []
        self._metadata: dict[bytes, bytes] = dict(schema.metadata or {})

    def __enter__(self) -> Writer:
        return self

    def write_table(self, table: pa.Table) -> None:
        self._parts.append(table)

    def add_key_value_metadata(self, metadata: dict[bytes, bytes]) -> None:
        self._metadata |= metadata

    def __exit__(self, *_: object) -> None:
        whole = pa.concat_tables(self._parts) if self._parts else self._schema.empty_table()
        self._file.write_bytes(self._numbered.written(whole.replace_schema_metadata(self._metadata)))


@contextmanager
def passing_as_they_are() -> Iterator[None]:
    """Pass tables by their numbers, as long as this lasts."""
    numbered = Numbered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "read_table", numbered.read_table)
        patch.setattr(pq, "read_schema", numbered.read_schema)
        patch.setattr(pq, "ParquetFile", numbered.open)
        patch.setattr(pq, "write_table", numbered.write_table)
        patch.setattr(pq, "ParquetWriter", lambda file, schema, **options: Writer(numbered, file, schema, **options))
        yield

"""Rows that are made from a picture each, whatever is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tasks.manifests.known_columns import Columns
from tasks.manifests.manifest import known_values
from tasks.manifests.row import BadRow, Row
from tasks.manifests.row_error import RowError
from tasks.rows.originals import READING_THREADS, OriginalReference, Originals, unread
from tasks.sources.source_error import SourceError

Ask = Callable[[Mapping[str, Any]], Row]
"""From the values of a manifest row to what they ask for, as far as that takes no picture; raises RowError."""

Fit = Callable[[Row, OriginalReference], Row]
"""Gives a row the size that it has with its picture; raises RowError where it can have none."""


@dataclass(frozen=True)
class SourceRows:
    """Reads rows, and the picture in the column `image` of each once: its content decides the row's key."""

    columns: Columns
    text: str  # the column that has what a row says of its picture
    ask: Ask
    fit: Fit
    originals: Originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give one row for each of a batch's, with its number in the batch."""
        self.originals.begin()
        with ThreadPoolExecutor(READING_THREADS, "source") as pool:
            yield from enumerate(pool.map(self._row, known_values(batch, self.columns)))

    def keep(self, row: Row) -> None:
        """Put a picture that the manifest holds where lanes can read it."""
        self.originals.keep(row)

    def _row(self, values: Mapping[str, Any]) -> Row | BadRow:
        row_id, text = values["id"], values.get(self.text) or ""
        try:
            asked = self.ask(values)
            original = self.originals.look("image", values.get("image"))
            return replace(self.fit(asked, original), image=original.address, source=original.source)
        except RowError as error:
            return BadRow.of(row_id, text, error)
        except SourceError as error:
            return unread(row_id, text, error)


def bad_source_rows(batch: pa.RecordBatch, columns: Columns, ask: Ask) -> Iterator[BadRow]:
    """Give the rows of a batch that would fail before a picture is looked at."""
    for values in known_values(batch, columns):
        try:
            ask(values)
        except RowError as error:
            yield BadRow.of(values["id"], "", error)

"""Rows of a manifest of prompts with control pictures."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from tasks.kinds.generate.prompt_rows import PromptRows
from tasks.manifests.row import BadRow, Row
from tasks.rows.originals import READING_THREADS, OriginalReference, Originals, unread
from tasks.sources.source_error import SourceError


class ControlledRows:
    """Reads prompts, and the control picture of each manifest row once: its content decides the keys of its rows."""

    def __init__(self, prompts: PromptRows, originals: Originals) -> None:
        self.prompts, self.originals = prompts, originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""
        self.originals.begin()
        controls = batch.column("control").to_pylist()
        rows = list(self.prompts.read(batch))
        good = dict.fromkeys(index for index, row in rows if isinstance(row, Row))
        with ThreadPoolExecutor(READING_THREADS, "control") as pool:
            looks = {index: pool.submit(self.originals.look, "control", controls[index]) for index in good}
            for index, row in rows:
                yield index, row if isinstance(row, BadRow) else _after(row, looks[index])

    def keep(self, row: Row) -> None:
        """Put a control picture that the manifest holds where lanes can read it."""
        self.originals.keep(row)


def _after(row: Row, look: Future[OriginalReference]) -> Row | BadRow:
    """Return a row that is drawn after a control picture, or fails with it."""
    try:
        control = look.result()
    except SourceError as error:
        return unread(row.id, row.prompt, error)
    return replace(row, image=control.address, source=control.source)

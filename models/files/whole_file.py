"""Files that appear whole or not at all."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BUFFER = 1 << 20  # bytes


class _Named(io.FileIO):
    """A file whose name stands in the errors of writing it: Python leaves it out where a disk is full."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self.name
            raise


@contextmanager
def appearing_whole(file: Path) -> Iterator[BinaryIO]:
    """Open a local file for writing that gets its name only when the block ends well."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with io.BufferedWriter(_Named(str(partial), "x"), BUFFER) as writing:
            yield writing
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)

"""A text that a job builds from other columns, for rows that have none of their own."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tasks.errors import RequestError
from tasks.manifests.known_columns import PROBLEM, texts
from tasks.manifests.row import is_blank
from tasks.manifests.row_error import Problem, RowError, RowFault


class TextTemplate:
    """A row's text built from columns: `"{color} {title}, studio photo on white"`."""

    def __init__(self, template: str, column: str) -> None:
        """Parse the template, which builds what `column` has where it isn't empty.

        Raises:
            RequestError: if it has a field that is more than a column's name.
        """
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise RequestError(f"The {column} template is wrong: {error}.") from error
        for _, name, spec, conversion in parts:
            if name is not None and (not name or spec or conversion or any(c in name for c in ".[]")):
                raise RequestError(f"The {column} template has a field {{{name}}}; fields are names of columns.")
        self.column, self.parts = column, parts
        self.columns = tuple(dict.fromkeys(name for _, name, _, _ in parts if name))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text of one row.

        Raises:
            RowError: with a sentence, if a column is empty in this row.
        """
        for name in self.columns:
            if values[name] is None or is_blank(str(values[name])):
                sentence = f"The {self.column} template reads the column {name!r}, which is empty in this row."
                raise RowError(Problem(name, RowFault.EMPTY, sentence))
        return "".join(text + (str(values[name]).strip() if name else "") for text, name, _, _ in self.parts)


def extra_values(batch: pa.RecordBatch, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a job's texts are built from, of a batch, one dict a row; none where they are built from nothing.

    PROBLEM is in it where a value can't be written as text.
    """
    read = {name: texts(name, batch.column(name)) for name in columns}
    rows: list[dict[str, Any]] = [
        dict(zip(read, row, strict=True))
        for row in zip(*(one.values.to_pylist() for one in read.values()), strict=True)
    ]
    for one in read.values():
        for row, problem in one.problems.items():
            rows[row].setdefault(PROBLEM, asdict(problem))
    return rows

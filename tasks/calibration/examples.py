"""Labelled examples: prompts and pictures that a person has looked at, in Parquet or CSV."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from tasks.errors import RequestError

SAFE = "safe"
COLUMNS = ("prompt", "image", "label")
BATCH_ROWS = 64  # rows may hold pictures
BLOCK = 16 << 20  # bytes of a CSV that are read at a time; no row is longer
NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")  # of a concept
SEPARATORS = re.compile(r"[;,|]")


@dataclass(frozen=True)
class Example:
    """One row."""

    row: int  # counted from 0
    prompt: str | None
    image: str | bytes | None  # as `tasks.sources.source.Sources` reads it
    labels: frozenset[str]  # names of concepts; none where it is safe


@dataclass(frozen=True)
class Examples:
    """A file of examples that was opened: its columns are right."""

    name: str  # as the person wrote it
    file: Path
    columns: tuple[str, ...]  # of `COLUMNS`, those that it has
    concepts: tuple[str, ...] | None  # what rows may be labelled with, besides safe; None: anything

    def __iter__(self) -> Iterator[Example]:
        """Give the rows in order.

        Raises:
            RequestError: for a row that can't be used, or a damaged page.
        """
        row = 0
        try:
            for batch in self._batches():
                for values in batch.to_pylist():
                    yield self._example(row, values)
                    row += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.name, error) from error
        if row == 0:
            raise RequestError(f"The examples {self.name} have no rows.")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if _is_csv(self.file):
            yield from _open_csv(self.file, self.columns)
        else:
            for batch in _open_parquet(self.file).iter_batches(batch_size=BATCH_ROWS, columns=list(self.columns)):
                batch.validate(full=True)
                yield batch

    def _example(self, row: int, values: dict[str, Any]) -> Example:
        labels = self._labels(row, values["label"])
        prompt, image = values.get("prompt"), values.get("image")
        if isinstance(image, dict):  # as Hugging Face datasets store pictures
            image = image["bytes"] or image["path"]
        if not (prompt and prompt.strip()) and not image:
            raise RequestError(f"Row {row} of the examples {self.name} has neither a prompt nor a picture.")
        return Example(row, prompt if prompt and prompt.strip() else None, image or None, labels)

    def _labels(self, row: int, value: Any) -> frozenset[str]:
        named = SEPARATORS.split(value) if isinstance(value, str) else [one or "" for one in value or ()]
        labels = {one.strip() for one in named} - {""}
        if not labels:
            raise RequestError(f"Row {row} of the examples {self.name} has no label; write a concept's name, or safe.")
        if self.concepts is None and (wrong := sorted(one for one in labels if not NAME.fullmatch(one))):
            raise RequestError(
                f"Row {row} of the examples {self.name} is labelled {wrong[0][:80]!r}; a concept's name has small "
                "letters, digits and underscores."
            )
        if self.concepts is not None and (unknown := sorted(labels - {SAFE, *self.concepts})):
            raise RequestError(
                f"Row {row} of the examples {self.name} is labelled {unknown[0][:80]!r}, which is no concept of the "
                f"policy; those are {', '.join(self.concepts)}, and {SAFE}."
            )
        if SAFE in labels and len(labels) > 1:
            other = sorted(labels - {SAFE})[0]
            raise RequestError(f"Row {row} of the examples {self.name} is labelled both {SAFE} and {other}.")
        return frozenset(labels - {SAFE})


def open_examples(name: str, concepts: Collection[str] | None) -> Examples:
    """Open a file of examples: `prompt` or `image` or both, and `label`.

    `concepts` are those that there are; None for any.

    Raises:
        RequestError: if it isn't there, can't be read, or lacks a column.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise RequestError(f"There is no file of examples {name}; give a Parquet or a CSV file.")
    try:
        schema = _csv_schema(file) if _is_csv(file) else _open_parquet(file).schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error
    found = tuple(column for column in COLUMNS if column in schema.names)
    if "label" not in found or len(found) < 2:
        lacks = "label" if "label" not in found else "prompt or image"
        raise RequestError(
            f"The examples {name} have no column {lacks}; they have {', '.join(schema.names[:20]) or 'none'}."
        )
    for column in found:
        if schema.names.count(column) > 1:
            raise RequestError(f"The examples {name} have two columns named {column}.")
        if not _fits(column, schema.field(column).type):
            raise RequestError(
                f"The examples {name} hold {schema.field(column).type} in their column {column}, where "
                f"{WANTED[column]} should be."
            )
    return Examples(name, file, found, None if concepts is None else tuple(concepts))


WANTED = {"prompt": "text", "image": "paths, addresses or bytes of pictures", "label": "names of concepts"}


def _fits(column: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if column == "label" and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _is_text(kind.value_type)
    if column == "image" and pa.types.is_struct(kind):
        return {field.name for field in kind} == {"bytes", "path"}
    return _is_text(kind) or (column == "image" and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() in (".csv", ".tsv")


def _open_parquet(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, page_checksum_verification=True, memory_map=False)


def _csv_schema(file: Path) -> pa.Schema:
    with _open_csv(file, None) as reader:
        return pa.schema([(name, pa.string()) for name in reader.schema.names])


def _open_csv(file: Path, columns: tuple[str, ...] | None) -> pv.CSVStreamingReader:
    return pv.open_csv(
        file,
        pv.ReadOptions(block_size=BLOCK),
        pv.ParseOptions(newlines_in_values=True, delimiter="\t" if file.suffix.lower() == ".tsv" else ","),
        pv.ConvertOptions(include_columns=list(columns or ()), column_types=dict.fromkeys(COLUMNS, pa.string())),
    )


def _unreadable(name: str, error: Exception) -> RequestError:
    why = str(error).strip().partition("\n")[0].rstrip(".")[:200]
    return RequestError(f"The examples {name} can't be read: {why}.")

"""One file of a manifest: its columns under the names that a person sees, and what its folders say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import RequestError

BOM = "\ufeff"
BEGINNINGS = {
    b"PK\x03\x04": "a ZIP file, as Excel's .xlsx is",
    b"\x1f\x8b": "compressed with gzip as a whole",
    b"\x28\xb5\x2f\xfd": "compressed with zstd as a whole",
    b"BZh": "compressed with bzip2 as a whole",
    b"ARROW1": "an Arrow or Feather file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"SQLite format 3": "an SQLite database",
    b"PARE": "an encrypted Parquet file",
}
SUFFIXES = {
    ".csv": "a CSV file",
    ".tsv": "a table of text",
    ".txt": "a text file",
    ".json": "a JSON file",
    ".jsonl": "a file of JSON lines",
    ".ndjson": "a file of JSON lines",
    ".xlsx": "an Excel file",
    ".xls": "an Excel file",
    ".feather": "an Arrow or Feather file",
    ".arrow": "an Arrow or Feather file",
    ".avro": "an Avro file",
    ".orc": "an ORC file",
}


class ManifestError(RequestError):
    """The manifest as a whole is refused."""


@dataclass(frozen=True)
class ManifestFile:
    """A Parquet file on this machine, opened anew by whoever reads it."""

    path: Path
    name: str  # as a person finds it in the manifest's folder
    partitions: Mapping[str, pa.Scalar] = field(default_factory=dict)  # columns that its folders say: `brand=nike/`
    address: str = ""  # of one that was downloaded

    @property
    def shown(self) -> str:
        """What a sentence calls it."""
        return self.address or str(self.path)

    @cached_property
    def rows(self) -> int:
        """The number of rows.

        Raises:
            ManifestError: as `schema`.
        """
        return self._footer[1]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as they are stored, then those that its folders say and that it doesn't hold itself.

        Raises:
            ManifestError: if it isn't a Parquet file that can be read.
        """
        return self._footer[0]

    @cached_property
    def marked(self) -> tuple[str, ...]:
        """The names of columns before which a byte order mark was left out."""
        return self._footer[2]

    @cached_property
    def _footer(self) -> tuple[pa.Schema, int, tuple[str, ...]]:
        """What the file says of itself, read once: columns, rows, and names that had byte order marks."""
        try:
            file = _open(self.path)
            names = self._names(file)
            fields = [field.with_name(name) for name, field in zip(names, file.schema_arrow, strict=True)]
            marked = tuple(name for name in names if name not in file.schema_arrow.names)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            kind = self._kind()
            it_is = f"It is {kind}: write it as Parquet." if kind else brief(error)
            raise ManifestError(f"The manifest {self.shown} is not a Parquet file that can be read. {it_is}") from error
        said = [pa.field(name, one.type) for name, one in self.partitions.items() if name not in names]
        return pa.schema([*fields, *said]), file.metadata.num_rows, marked

    def _names(self, file: pq.ParquetFile) -> list[str]:
        """Return the columns' names, without byte order marks before them."""
        names = file.schema_arrow.names
        return [name.lstrip(BOM) if name.lstrip(BOM) not in names else name for name in names]

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give the rows in order, so many at a time, in all columns or these ones, as they are stored.

        Raises:
            ManifestError: where a page is damaged.
        """
        try:
            file = _open(self.path)
            names, stored = self._names(file), file.schema_arrow.names
            wanted = list(dict.fromkeys([*names, *self.partitions] if columns is None else columns))
            places = {name: stored[names.index(name)] for name in wanted if name in names}
            for batch in file.iter_batches(batch_size=rows, columns=None if columns is None else [*places.values()]):
                arrays = [
                    batch.column(batch.schema.get_field_index(places[name]))
                    if name in places
                    else pa.repeat(self.partitions[name], batch.num_rows)
                    for name in wanted
                ]
                if not arrays:
                    continue
                yield pa.RecordBatch.from_arrays(arrays, names=wanted)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise damaged(self.shown, error) from error

    def _kind(self) -> str | None:
        try:
            with self.path.open("rb") as stream:
                head = stream.read(512)
        except OSError:
            return None
        if not head:
            return "empty, 0 bytes"
        return what_it_is(self.name, head)


def _open(path: Path) -> pq.ParquetFile:
    # Without the check a page with a wrong checksum is read as if it were whole (pyarrow 26).
    # Spark's old timestamps, of 96 bits, hold years that no 64 bits of nanoseconds do: those would come out as others.
    return pq.ParquetFile(path, page_checksum_verification=True, memory_map=False, coerce_int96_timestamp_unit="us")


def what_it_is(name: str, head: bytes) -> str | None:
    """Say what a file is that isn't Parquet, by its first bytes and its name; None where nobody can tell."""
    if head.startswith(b"PAR1"):
        return None
    for beginning, kind in BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if (suffix := Path(name).suffix.lower()) in SUFFIXES:
        return SUFFIXES[suffix]
    text = head.decode("utf-8", "ignore").lstrip(BOM).lstrip()
    if text.startswith(("{", "[")):
        return "a JSON file"
    if text.lower().startswith(("<!doctype", "<html", "<?xml")):
        return "a web page, or XML"
    line = text.partition("\n")[0]
    if line.replace("\t", "").strip().isprintable() and any(separator in line for separator in ",;\t"):
        return "a CSV file"
    return None


def damaged(file: str, error: Exception) -> ManifestError:
    """Return the refusal of a file that can't be read to its end."""
    return ManifestError(f"The manifest {file} is damaged: {brief(error)}")


def brief(error: Exception) -> str:
    """Return what a library said, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200] + "."

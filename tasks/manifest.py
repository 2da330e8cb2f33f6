"""The manifest: Parquet in, checked rows out, streamed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.outcome import SCHEMA
from tasks.request import RequestError

ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BATCH_ROWS = 4096
SHOWN_ROWS = 5  # rows that a refusal names


@dataclass(frozen=True)
class Columns:
    """The columns that a job reads, by what they hold."""

    text: tuple[str, ...]
    whole: tuple[str, ...]  # numbers
    real: tuple[str, ...] = ("guidance",)
    image: tuple[str, ...] = ()  # text or bytes; every one must be there
    idle: tuple[str, ...] = ()  # pictures that nothing in the job reads: they may not be there

    @property
    def known(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.text, *self.whole, *self.real, *self.image)

    def wanted(self, column: str) -> str:
        """What a column holds, for people."""
        if column in self.image:
            return "text or bytes"
        return "text" if column in self.text else "whole numbers" if column in self.whole else "numbers"

    def fits(self, column: str, kind: pa.DataType) -> bool:
        """Whether a column of this type can be read."""
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_null(kind):
            return column != "id"
        if column in self.image and _is_bytes(kind):
            return True
        if column in (*self.text, *self.image):
            return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
        if column in self.whole:
            return bool(pa.types.is_integer(kind))
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


PROMPTS = Columns(
    text=("id", "prompt", "negative_prompt", "profile"),
    whole=("seed", "width", "height", "steps", "variants"),
    idle=("control",),
)
CONTROLLED = replace(PROMPTS, image=("control",), idle=())  # of a job with a ControlNet
PICTURES = Columns(
    text=("id", "caption", "negative_prompt", "profile"),
    whole=("seed", "layers", "resolution", "steps"),
    image=("image",),
)
BATCH_PICTURES = 32  # rows at a time where they hold the bytes of pictures


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):  # as Hugging Face datasets store pictures: {bytes, path}
        fields = {field.name: field.type for field in kind}
        return set(fields) == {"bytes", "path"} and _is_bytes(fields["bytes"])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


class ManifestError(RequestError):
    """The manifest as a whole is refused."""


@dataclass(frozen=True)
class Manifest:
    """A manifest that was opened and checked as a whole: its types are right, its ids unique."""

    name: str  # as the person wrote it
    files: tuple[Path, ...]
    schema: pa.Schema
    rows: int
    digest: str  # SHA-256 of the files' bytes
    columns: Columns

    @property
    def carried(self) -> pa.Schema:
        """The columns that packshot doesn't read: they go to the catalogue untouched."""
        return pa.schema([field for field in self.schema if field.name not in self.columns.known])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, a few thousand at a time, in the columns of `schema`; fewer where they hold pictures.

        Raises:
            ManifestError: where a page is damaged.
        """
        holds_pictures = any(_is_bytes(self.schema.field(c).type) for c in self.columns.image if c in self.schema.names)
        rows = BATCH_PICTURES if holds_pictures else BATCH_ROWS
        for file in self.files:
            try:
                for batch in _open(file).iter_batches(batch_size=rows):
                    batch.validate(full=True)
                    yield batch.select(self.schema.names)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(file, error) from error


def open_manifest(
    name: str, files: tuple[Path, ...], columns: Columns = PROMPTS, *, template_columns: tuple[str, ...] | None = None
) -> Manifest:
    """Open a manifest's local `files` and refuse it as a whole if any row could not be told from another.

    `template_columns` are what the job's prompt template reads, None when it has none.

    Raises:
        ManifestError: no file, not Parquet, a damaged page, a missing column, a wrong type, null or duplicate ids.
    """
    if not files:
        raise ManifestError(f"The manifest {name} holds no Parquet file.")
    schema, rows = None, 0
    for file in files:
        try:
            parquet = _open(file)
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(
                f"The manifest {file} is not a Parquet file that can be read: {_brief(error)}"
            ) from error
        found = parquet.schema_arrow.remove_metadata()
        if schema is None:
            schema = found
            _check_columns(schema, name, columns, template_columns)
        elif not found.equals(schema):
            raise ManifestError(f"The manifest {name} mixes schemas: {file.name} differs from {files[0].name}.")
        rows += parquet.metadata.num_rows
    assert schema is not None
    if rows == 0:
        raise ManifestError(f"The manifest {name} has no rows.")
    _check_ids(files, name)
    return Manifest(name, files, schema, rows, _digest(files), columns)


def _open(file: Path) -> pq.ParquetFile:
    # Without the check a page with a wrong checksum is read as if it were whole (pyarrow 26).
    return pq.ParquetFile(file, page_checksum_verification=True, memory_map=False)


def _check_columns(schema: pa.Schema, name: str, columns: Columns, template_columns: tuple[str, ...] | None) -> None:
    repeated = sorted({column for column in schema.names if schema.names.count(column) > 1})
    if repeated:
        raise ManifestError(f"The manifest {name} has two columns named {repeated[0]!r}.")
    if "id" not in schema.names:
        raise ManifestError(f"The manifest {name} has no column 'id'; it has {', '.join(schema.names) or 'none'}.")
    for column in columns.image:
        if column not in schema.names:
            demand = ", and the job's controlnet draws after control pictures" if column == "control" else ""
            raise ManifestError(
                f"The manifest {name} has no column {column!r}{demand}; it has {', '.join(schema.names)}."
            )
    for column in columns.idle:
        if column in schema.names:
            raise ManifestError(
                f"The manifest {name} has a column {column!r}, and the job has no controlnet that draws after it: "
                "give one (--controlnet), or rename the column to carry it."
            )
    if "prompt" in columns.text and "prompt" not in schema.names and template_columns is None:
        raise ManifestError(f"The manifest {name} has no column 'prompt', and the job has no prompt_template.")
    for column in template_columns or ():
        if column not in schema.names:
            raise ManifestError(f"The prompt template reads the column {column!r}, which the manifest {name} lacks.")
    for column in columns.known:
        if column in schema.names and not columns.fits(column, schema.field(column).type):
            raise ManifestError(
                f"The manifest {name} holds {schema.field(column).type} in its column {column!r}, "
                f"not {columns.wanted(column)}."
            )
    reserved = sorted(set(schema.names) & (set(SCHEMA.names) - set(columns.known)))
    if reserved:
        raise ManifestError(
            f"The manifest {name} has a column {reserved[0]!r}, which the catalogue uses itself; rename it to carry it."
        )


def _check_ids(files: tuple[Path, ...], name: str) -> None:
    """Null and duplicate ids, over all files, in Arrow memory."""
    try:
        chunks = [_open(file).read(columns=["id"]).column("id").cast(pa.large_string()) for file in files]
    except (pa.ArrowException, OSError) as error:
        raise _damaged(files[0] if len(files) == 1 else Path(name), error) from error
    ids = pa.chunked_array([chunk for column in chunks for chunk in column.chunks], pa.large_string())
    if ids.null_count:
        rows = pc.indices_nonzero(ids.is_null())[:SHOWN_ROWS].to_pylist()
        raise ManifestError(f"The manifest {name} has rows without an id: {_numbered(rows)}.")
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        value = repeated.field("values")[0]
        rows = pc.indices_nonzero(pc.equal(ids, value))[:SHOWN_ROWS].to_pylist()
        more = f"; {len(repeated) - 1} more ids are repeated" if len(repeated) > 1 else ""
        raise ManifestError(f"The manifest {name} repeats the id {value.as_py()!r} in {_numbered(rows)}{more}.")


def _numbered(rows: list[int]) -> str:
    """Row numbers as a person counts them in a file: from 0, as Parquet readers do."""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))} (counted from 0)"


def _digest(files: tuple[Path, ...]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def _damaged(file: Path, error: Exception) -> ManifestError:
    return ManifestError(f"The manifest {file} is damaged: {_brief(error)}")


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:200] + "."


def known_values(batch: pa.RecordBatch, columns: Columns) -> list[dict[str, Any]]:
    """The columns that a job reads, as Python values: one dict a row of this batch."""
    return batch.select([name for name in batch.schema.names if name in columns.known]).to_pylist()  # type: ignore[no-any-return]

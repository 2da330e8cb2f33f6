"""The manifest: Parquet in, checked rows out, streamed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.manifests.column_types import Lossy, cast, holding, of_any_value, plain
from tasks.manifests.fetch import Fetched
from tasks.manifests.known_columns import PROBLEM, PROMPTS, Columns, holds_bytes, problems_of, read_id, read_known
from tasks.manifests.manifest_file import ManifestError, ManifestFile, brief, damaged
from tasks.manifests.row_error import Problem
from tasks.outcome import CATALOGUE_SCHEMA, RENAMED

ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BATCH_ROWS = 4096
BATCH_PICTURES = 32  # rows at a time where they hold the bytes of pictures
SHOWN_ROWS = 5  # rows that a refusal names
RESERVED = {*CATALOGUE_SCHEMA.names, *RENAMED, PROBLEM}  # what the catalogue, or a batch, calls its own columns


@dataclass(frozen=True)
class Manifest:
    """A manifest that was opened and checked as a whole: its types are right, its ids unique."""

    name: str  # as the person wrote it
    files: tuple[ManifestFile, ...]
    schema: pa.Schema  # what is carried as it is carried, and what is known as it was found in the first file
    rows: int
    digest: str  # SHA-256 of the files' bytes, and of what their folders say
    columns: Columns
    template_columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # of its files and columns, in sentences

    @property
    def carried(self) -> pa.Schema:
        """The columns that packshot doesn't read: they go to the catalogue untouched."""
        return pa.schema([field for field in self.schema if field.name not in self.columns.known])

    def batches(self, columns: Sequence[str] | None = None, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Give the rows in order, a few thousand at a time: known columns as rows read them, carried ones, PROBLEM.

        `columns` are those to read, all by default; `rows` is how many at a time.

        Raises:
            ManifestError: where a page is damaged.
        """
        holds_pictures = any(
            holds_bytes(self.schema.field(c).type) for c in self.columns.pictures if c in self.schema.names
        )
        rows = rows or (BATCH_PICTURES if holds_pictures else BATCH_ROWS)
        for file in self.files:
            for batch in file.batches(rows, columns):
                _check_structure(file, batch)
                yield self._read(batch)

    def _read(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        known = {
            name: read_known(self.columns, name, batch.column(name))
            for name in self.columns.known
            if name in batch.schema.names
        }
        carried = {
            field.name: cast(batch.column(field.name), field.type)
            for field in self.carried
            if field.name in batch.schema.names
        }
        problems = problems_of(known.values(), batch.num_rows)
        arrays = {name: read.values for name, read in known.items()} | carried
        return pa.RecordBatch.from_pydict({**arrays, PROBLEM: problems})

    def column(self, name: str) -> Iterator[pa.Array]:
        """Give a carried column as it is carried, in pieces.

        Raises:
            ManifestError: where a page is damaged.
        """
        kind = self.schema.field(name).type
        for file in self.files:
            yield from (cast(batch.column(0), kind) for batch in file.batches(BATCH_ROWS, [name]))


def open_manifest(
    name: str, fetched: Fetched, columns: Columns = PROMPTS, *, template_columns: tuple[str, ...] | None = None
) -> Manifest:
    """Open a manifest's local files and refuse it as a whole if any row could not be told from another.

    `template_columns` are what the job's prompt template reads, None when it has none.

    Raises:
        ManifestError: no file, not Parquet, a damaged page, a missing column, a wrong type, null or duplicate ids.
    """
    files = tuple(file for file in fetched.files if file.rows) or fetched.files
    schemas = [file.schema for file in files]
    _check_columns(schemas[0], name, columns, template_columns)
    schema = _whole_schema(name, files, schemas, columns)
    rows = sum(file.rows for file in files)
    if rows == 0:
        raise ManifestError(f"The manifest {name} has no rows.")
    _check_ids(files, name)
    for column in schema.names:
        if any(columns.is_number_as_text(column, one.field(column).type) for one in schemas):
            _check_numbers(files, name, columns, column)
    marks = [
        f"The column {mark!r} is read without the byte order mark before its name."
        for mark in dict.fromkeys(mark for file in files for mark in file.marked)
    ]
    near = [_near_sentence(one, known) for one, known in _near(schema, columns).items() if known not in schema.names]
    warnings = (*fetched.warnings, *marks, *near)
    return Manifest(name, files, schema, rows, _digest(fetched.files), columns, template_columns or (), warnings)


def _check_columns(schema: pa.Schema, name: str, columns: Columns, template_columns: tuple[str, ...] | None) -> None:
    names = schema.names
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        raise ManifestError(f"The manifest {name} has two columns named {repeated[0]!r}.")
    there = f"it has {', '.join(map(_shown, names)) or 'none'}"
    near = {known: f"; rename {one!r} to {known!r}" for one, known in _near(schema, columns).items()}
    if "id" not in names:
        raise ManifestError(f"The manifest {name} has no column 'id'; {there}{near.get('id', '')}.")
    for column in columns.image:
        if column not in names:
            demand = ", and the job's controlnet draws after control pictures" if column == "control" else ""
            raise ManifestError(f"The manifest {name} has no column {column!r}{demand}; {there}{near.get(column, '')}.")
    for column in columns.idle:
        if column in names:
            raise ManifestError(
                f"The manifest {name} has a column {column!r}, and the job has no controlnet that draws after it: "
                "give one (--controlnet), or rename the column to carry it."
            )
    templated = columns.templated
    is_named = columns.instead is not None and columns.instead in names
    if templated is not None and templated not in names and template_columns is None and not is_named:
        raise ManifestError(
            f"The manifest {name} has no column {templated!r}, and the job has no {templated}_template; "
            f"{there}{near.get(templated, '')}."
        )
    for column in template_columns or ():
        if column not in names:
            raise ManifestError(
                f"The job builds its {templated}s from the column {column!r}, which the manifest {name} lacks; {there}."
            )
    reserved = sorted(set(names) & (RESERVED - set(columns.known)))
    if reserved:
        raise ManifestError(
            f"The manifest {name} has a column {reserved[0]!r}, which the catalogue uses itself; rename it to carry it."
        )


def _whole_schema(
    name: str, files: Sequence[ManifestFile], schemas: Sequence[pa.Schema], columns: Columns
) -> pa.Schema:
    """Return the columns of all files, in the order of the first; carried ones in types that hold the values of all."""
    first = schemas[0].names
    for file, schema in zip(files, schemas, strict=True):
        if differing := sorted(set(first) ^ set(schema.names)):
            has, lacks = (files[0], file) if differing[0] in first else (file, files[0])
            raise ManifestError(
                f"The manifest {name} mixes schemas: its column {differing[0]!r} is in {has.name}, and not in "
                f"{lacks.name}."
            )
        for column in columns.known:
            if column in schema.names and not columns.fits(column, schema.field(column).type):
                where = f" of {file.name}" if len(files) > 1 else ""
                raise ManifestError(
                    f"The manifest {name} holds {schema.field(column).type} in its column {column!r}{where}, "
                    f"not {columns.wanted(column)}."
                )
    fields = []
    for column in first:
        if column in columns.known:
            fields.append(pa.field(column, schemas[0].field(column).type))
            continue
        kinds = [schema.field(column).type for schema in schemas]
        fields.append(pa.field(column, _carried_type(name, column, files, kinds)))
    return pa.schema(fields)


def _carried_type(name: str, column: str, files: Sequence[ManifestFile], kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type in which a column is carried."""
    for kind in holding(kinds):
        if kind.equals(plain(kinds[0])) and all(plain(one).equals(kind) for one in kinds):
            return kind
        try:
            for file in files:
                for batch in file.batches(BATCH_ROWS, [column]):
                    cast(batch.column(0), kind)
        except Lossy:
            continue
        return kind
    examples = {str(kind): file.name for kind, file in reversed([*zip(kinds, files, strict=True)])}
    said = ", ".join(f"{kind} in {file}" for kind, file in sorted(examples.items(), key=lambda one: one[1]))
    raise ManifestError(
        f"The manifest {name} mixes schemas: its column {column!r} holds {said}, and no type holds the values of all; "
        "give it one type."
    )


def _check_structure(file: ManifestFile, batch: pa.RecordBatch) -> None:
    """Refuse a batch whose bytes don't make up its columns. Values that a type shouldn't have are left to readers."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if (damage := _damage(column)) is not None:
                raise ManifestError(
                    f"The manifest {file.shown} is damaged in its column {name!r}: {brief(damage)}"
                ) from damage


def _damage(column: pa.Array) -> pa.ArrowException | None:
    """Say what is wrong with a column's structure, if anything is."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        try:
            column.view(of_any_value(column.type)).validate(full=True)
        except pa.ArrowException as error:
            return error
    return None


def _check_ids(files: Sequence[ManifestFile], name: str) -> None:
    """Refuse null, unreadable and duplicate ids, over all files, in Arrow memory."""
    chunks, starts, rows = [], [], 0
    for file in files:
        starts.append(rows)
        for batch in file.batches(BATCH_ROWS, ["id"]):
            _check_structure(file, batch)
            read = read_id(batch.column(0))
            if read.problems:
                row, problem = next(iter(read.problems.items()))
                where = _numbered([rows + row], starts, files)
                raise ManifestError(
                    f"The manifest {name} can't be read in its column 'id', {where}: {problem.sentence}"
                )
            chunks.append(read.values)
            rows += batch.num_rows
    ids = pa.chunked_array(chunks, pa.large_string())
    if ids.null_count:
        places = pc.indices_nonzero(ids.is_null())[:SHOWN_ROWS].to_pylist()
        raise ManifestError(f"The manifest {name} has rows without an id: {_numbered(places, starts, files)}.")
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        value = repeated.field("values")[0]
        places = pc.indices_nonzero(pc.equal(ids, value))[:SHOWN_ROWS].to_pylist()
        more = f"; {len(repeated) - 1} more ids are repeated" if len(repeated) > 1 else ""
        where = _numbered(places, starts, files)
        raise ManifestError(f"The manifest {name} repeats the id {value.as_py()!r} in {where}{more}.")


def _check_numbers(files: Sequence[ManifestFile], name: str, columns: Columns, column: str) -> None:
    """Refuse a column of texts, none of which is the number that is looked for there: it is about something else."""
    example: Problem | None = None
    for file in files:
        for batch in file.batches(BATCH_ROWS, [column]):
            _check_structure(file, batch)
            read = read_known(columns, column, batch.column(0))
            if read.values.null_count < batch.num_rows:
                return
            example = example or next(iter(read.problems.values()), None)
    if example:
        raise ManifestError(
            f"The manifest {name} holds text in its column {column!r}, and in no row {columns.wanted(column)}. "
            f"{example.sentence} To carry the column, name it otherwise."
        )


def _numbered(rows: Sequence[int], starts: Sequence[int], files: Sequence[ManifestFile]) -> str:
    """Return row numbers as a person counts them in a file: from 0, as Parquet readers do."""
    if len(files) == 1:
        return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))} (counted from 0)"
    places = []
    for row in rows:
        number = max(number for number, start in enumerate(starts) if start <= row)
        places.append(f"row {row - starts[number]} of {files[number].name}")
    return f"{', '.join(places)} (counted from 0)"


def _near(schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Return columns that aren't known and are called like known ones, but for case, spaces and dashes, with those."""
    known = {_bare(column): column for column in columns.known}
    return {name: known[_bare(name)] for name in schema.names if name not in columns.known and _bare(name) in known}


def _shown(name: str) -> str:
    """Return a column's name, in quotes where something in it can't be seen."""
    return name if name.isprintable() and " " not in name and name else repr(name)


def _bare(name: str) -> str:
    return re.sub(r"[\s_\-\u200b\u00a0\ufeff]", "", name).casefold()


def _near_sentence(name: str, known: str) -> str:
    return f"The column {name!r} is carried and not read: rename it to {known!r} if that is what it is."


def _digest(files: Sequence[ManifestFile]) -> str:
    whole = hashlib.sha256()
    for file in files:
        try:
            with file.path.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise damaged(file.shown, error) from error
    if any(file.partitions for file in files):
        said = [{name: value.as_py() for name, value in file.partitions.items()} for file in files]
        whole.update(json.dumps(said, sort_keys=True).encode())
    return whole.hexdigest()


def known_values(batch: pa.RecordBatch, columns: Columns) -> list[dict[str, Any]]:
    """Return the columns that a job reads, and PROBLEM, as Python values: one dict a row of this batch."""
    read = {*columns.known, PROBLEM}
    return batch.select([name for name in batch.schema.names if name in read]).to_pylist()  # type: ignore[no-any-return]

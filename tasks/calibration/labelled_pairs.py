"""Labelled pairs: sources and edited results that a person compared, in Parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from safety.fidelity.frames import PairError
from safety.fidelity.instruction import COLOUR, Instruction
from safety.fidelity.limits import LabelledPair, reasons_of
from safety.fidelity.measuring import EditedPair, measure, measure_wanted
from safety.fidelity.product_mask import product_mask
from safety.probes.held_out import picture_key
from tasks.errors import RequestError
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources
from tasks.sources.source_error import SourceError

PICTURES = ("source", "result", "mask")
COLUMNS = (*PICTURES, "label", COLOUR)
NEEDED = ("source", "result", "label")
BATCH_ROWS = 16  # rows may hold pictures


@dataclass(frozen=True)
class PairRow:
    """One row: paths, addresses or bytes of pictures, and what a person said."""

    row: int  # counted from 0
    source: str | bytes
    result: str | bytes
    mask: str | bytes | None
    wrong: frozenset[str]
    colour: str


@dataclass(frozen=True)
class PairsFile:
    """A file of labelled pairs that was opened: its columns are right."""

    name: str  # as the person wrote it
    file: Path
    columns: tuple[str, ...]  # of `COLUMNS`, those that it has

    def __iter__(self) -> Iterator[PairRow]:
        """Give the rows in order.

        Raises:
            RequestError: for a row that can't be used, or a damaged file.
        """
        row = 0
        try:
            for batch in _batches(self.file, self.columns):
                for values in batch.to_pylist():
                    yield self._row(row, values)
                    row += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.name, error) from error
        if row == 0:
            raise RequestError(f"The pairs {self.name} have no rows.")

    def _row(self, row: int, values: dict[str, Any]) -> PairRow:
        for name in ("source", "result"):
            if not values[name]:
                raise RequestError(f"Row {row} of the pairs {self.name} has no {name}.")
        try:
            wrong = reasons_of(values["label"] or "")
        except ValueError as error:
            raise RequestError(f"Row {row} of the pairs {self.name} {error}") from None
        mask, colour = values.get("mask") or None, values.get(COLOUR) or ""
        return PairRow(row, values["source"], values["result"], mask, wrong, colour)


def open_pairs(name: str, instruction: Instruction) -> PairsFile:
    """Open a file of labelled pairs: `source`, `result` and `label`, and where there is one, `mask`; `colour` where the
    instruction asks for one.

    Raises:
        RequestError: if it isn't there, can't be read, or lacks a column.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise RequestError(f"There is no file of pairs {name}; give a Parquet or a CSV file.")
    try:
        names = _open_csv(file, None).schema.names if _is_csv(file) else _open_parquet(file).schema_arrow.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error
    for column in (*NEEDED, *([COLOUR] if COLOUR in instruction.fields else [])):
        if names.count(column) != 1:
            lacks = f"no column {column}" if column not in names else f"two columns named {column}"
            raise RequestError(f"The pairs {name} have {lacks}; they have {', '.join(names[:20]) or 'none'}.")
    return PairsFile(name, file, tuple(column for column in COLUMNS if column in names))


def measured(pairs: PairsFile, instruction: Instruction, sources: Sources, decoder: Decoder) -> list[LabelledPair]:
    """Measure every pair of a file.

    Raises:
        RequestError: for a row that can't be used, a picture that can't be read, and a pair that can't be compared.
    """
    found = []
    for row in pairs:
        source, result = (pixels_of(row, name, sources, decoder) for name in ("source", "result"))
        mask = None if row.mask is None else pixels_of(row, "mask", sources, decoder)
        try:
            pair = EditedPair(source, result, product_mask(source, mask))
            scores = measure(pair)
        except PairError as error:
            raise RequestError(f"Row {row.row} of the pairs {pairs.name} can't be compared. {error}") from None
        if COLOUR in instruction.fields:
            scores |= measure_wanted(pair, row.colour)
        found.append(LabelledPair(row.row, picture_key(source), row.wrong, scores))
    return found


def pixels_of(row: PairRow, name: str, sources: Sources, decoder: Decoder) -> np.ndarray:
    """Return one picture of a pair, uint8 [H, W, 4].

    Raises:
        RequestError: if it can't be read or decoded.
    """
    try:
        return decoder.decode(sources.read(getattr(row, name))).pixels
    except SourceError as error:
        raise RequestError(f"The {name} in row {row.row} can't be used: {error.message}") from None


def _batches(file: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    if _is_csv(file):
        with _open_csv(file, columns) as reader:
            yield from reader
    else:
        for batch in _open_parquet(file).iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
            batch.validate(full=True)
            yield batch


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() in (".csv", ".tsv")


def _open_parquet(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, page_checksum_verification=True, memory_map=False)


def _open_csv(file: Path, columns: tuple[str, ...] | None) -> pv.CSVStreamingReader:
    return pv.open_csv(
        file,
        None,
        pv.ParseOptions(newlines_in_values=True, delimiter="\t" if file.suffix.lower() == ".tsv" else ","),
        pv.ConvertOptions(include_columns=list(columns or ()), column_types=dict.fromkeys(COLUMNS, pa.string())),
    )


def _unreadable(name: str, error: Exception) -> RequestError:
    why = str(error).strip().partition("\n")[0].rstrip(".")[:200]
    return RequestError(f"The pairs {name} can't be read: {why}.")

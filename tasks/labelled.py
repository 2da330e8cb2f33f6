"""Prompts that a person has labelled, in Parquet or CSV: columns `prompt` and `label`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from safety.probe_training import SAFE
from tasks.request import RequestError

SEPARATORS = re.compile(r"[;,|]")
CONCEPT = re.compile(r"[a-z][a-z0-9_]{0,99}")
LARGEST = 256 << 20  # bytes of a file


@dataclass(frozen=True)
class LabelledPrompt:
    """One row."""

    prompt: str
    labels: frozenset[str]  # names of concepts, or `SAFE` alone


def read_labelled_prompts(name: str) -> list[LabelledPrompt]:
    """Read labelled prompts. A label is `safe`, or the names of concepts with commas between them.

    Raises:
        RequestError: if the file can't be read, lacks a column, or holds a row that can't be used.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise RequestError(f"There is no file of examples {name}; give a Parquet or a CSV file.")
    if file.stat().st_size > LARGEST:
        raise RequestError(f"The examples {name} are larger than {LARGEST >> 20} MiB; give fewer of them.")
    try:
        table = _csv(file) if file.suffix.lower() in (".csv", ".tsv") else _parquet(file)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).strip().partition("\n")[0].rstrip(".")[:200]
        raise RequestError(f"The examples {name} can't be read: {why}.") from error
    for column in ("prompt", "label"):
        if (count := table.schema.names.count(column)) != 1:
            found = ", ".join(table.schema.names[:20]) or "none"
            lacks = "no column" if not count else "more than one column"
            raise RequestError(f"The examples {name} have {lacks} {column}; they have {found}.")
    prompts, labels = table.column("prompt").to_pylist(), table.column("label").to_pylist()
    if not prompts:
        raise RequestError(f"The examples {name} have no rows.")
    return [_example(name, row, *values) for row, values in enumerate(zip(prompts, labels, strict=True))]


def _parquet(file: Path) -> pa.Table:
    return pq.ParquetFile(file, page_checksum_verification=True).read()


def _csv(file: Path) -> pa.Table:
    text = dict.fromkeys(("prompt", "label"), pa.string())
    return pv.read_csv(
        file,
        parse_options=pv.ParseOptions(
            newlines_in_values=True, delimiter="\t" if file.suffix.lower() == ".tsv" else ","
        ),
        convert_options=pv.ConvertOptions(column_types=text),
    )


def _example(name: str, row: int, prompt: Any, label: Any) -> LabelledPrompt:
    """A row, counted from 0."""
    where = f"Row {row} of the examples {name}"
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"{where} has no prompt.")
    named = SEPARATORS.split(label) if isinstance(label, str) else label if isinstance(label, list) else []
    labels = frozenset(str(one).strip() for one in named if one) - {""}
    if not labels:
        raise RequestError(f"{where} has no label; write a concept's name, or {SAFE}.")
    if SAFE in labels and len(labels) > 1:
        raise RequestError(f"{where} is labelled both {SAFE} and {min(labels - {SAFE})}.")
    if wrong := sorted(one for one in labels if not CONCEPT.fullmatch(one)):
        raise RequestError(
            f"{where} is labelled {wrong[0][:80]!r}; a concept's name has small letters, digits and underscores."
        )
    return LabelledPrompt(prompt, labels)

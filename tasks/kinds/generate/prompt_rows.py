"""Rows of a manifest of prompts."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from models.requests import SamplingDefaults
from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.manifests.known_columns import PROBLEM, PROMPTS, texts
from tasks.manifests.manifest import known_values
from tasks.manifests.row import BadRow, Row, check_id, check_length, check_read, given_or, whole
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.row_defaults import KnownCheckpoint, RowDefaults, row_defaults, sampled

SMALLEST, LARGEST = 64, 4096  # pixels a side
MAX_VARIANTS = 64


class PromptTemplate:
    """A prompt built from columns: `"{color} {title}, studio photo on white"`."""

    def __init__(self, template: str) -> None:
        """Parse the template.

        Raises:
            RequestError: if it has a field that is more than a column's name.
        """
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise RequestError(f"The prompt template is wrong: {error}.") from error
        for _, name, spec, conversion in parts:
            if name is not None and (not name or spec or conversion or any(c in name for c in ".[]")):
                raise RequestError(f"The prompt template has a field {{{name}}}; fields are names of columns.")
        self.parts = parts
        self.columns = tuple(dict.fromkeys(name for _, name, _, _ in parts if name))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the prompt of one row.

        Raises:
            RowError: with a sentence, if a column is empty in this row.
        """
        for name in self.columns:
            if values[name] is None or not str(values[name]).strip():
                sentence = f"The prompt template reads the column {name!r}, which is empty in this row."
                raise RowError(Problem(name, RowFault.EMPTY, sentence))
        return "".join(text + (str(values[name]).strip() if name else "") for text, name, _, _ in self.parts)


@dataclass(frozen=True, kw_only=True)
class Defaults(RowDefaults):
    """What a row gets where it says nothing, with what rows of prompts alone have."""

    width: int
    height: int
    variants: int
    template: PromptTemplate | None


@dataclass(frozen=True)
class PromptRows:
    """Reads the rows of a manifest of prompts."""

    defaults: Defaults

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""
        extra = extra_values(batch, self.defaults.template)
        for index, values in enumerate(known_values(batch, PROMPTS)):
            for row in rows_of(values, extra[index] if extra else {}, self.defaults):
                yield index, row

    def keep(self, row: Row) -> None:
        """Do nothing: a prompt stands in the plan."""


def extra_values(batch: pa.RecordBatch, template: PromptTemplate | None) -> list[dict[str, Any]]:
    """Return what a template reads of a batch, one dict a row; none where there is no template.

    PROBLEM is in it where a value can't be written as text.
    """
    read = {name: texts(name, batch.column(name)) for name in (template.columns if template else ())}
    rows: list[dict[str, Any]] = [
        dict(zip(read, row, strict=True))
        for row in zip(*(one.values.to_pylist() for one in read.values()), strict=True)
    ]
    for one in read.values():
        for row, problem in one.problems.items():
            rows[row].setdefault(PROBLEM, asdict(problem))
    return rows


def rows_of(values: Mapping[str, Any], carried: Mapping[str, Any], defaults: Defaults) -> Iterator[Row | BadRow]:
    """Give the rows that one manifest row asks for: one, or as many as it wants variants."""
    row_id = values["id"]
    prompt = values.get("prompt") or ""
    try:
        check_id(row_id)
        check_read(values)
        if not prompt.strip():
            if defaults.template is None:
                raise RowError(Problem("prompt", RowFault.EMPTY, "The prompt is empty."))
            check_read(carried)
            prompt = defaults.template.fill({**carried, **values})
        check_length("prompt", prompt)
        variants = whole(values, "variants", defaults.variants, range(1, MAX_VARIANTS + 1))
        row = Row(
            id=row_id,
            prompt=prompt,
            width=_side(values, "width", defaults.width, defaults.size_multiple),
            height=_side(values, "height", defaults.height, defaults.size_multiple),
            **sampled(values, defaults),
        )
    except RowError as error:
        yield BadRow.of(row_id, prompt, error)
        return
    if variants == 1:
        yield row
        return
    for variant in range(variants):
        yield replace(row, id=f"{row_id}.v{variant + 1}", seed=(row.seed + variant) % 2**63)


def job_defaults(job: GenerateJob, known: KnownCheckpoint[SamplingDefaults]) -> Defaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be drawn with them, or the prompt template is wrong.
    """
    common, multiple = row_defaults(job, known), known.size_multiple
    if (job.sampling.width or 0) % multiple or (job.sampling.height or 0) % multiple:
        raise RequestError(f"The job is wrong: width and height: this checkpoint takes multiples of {multiple}.")
    return Defaults(
        width=given_or(job.sampling.width, known.defaults.width),
        height=given_or(job.sampling.height, known.defaults.height),
        variants=job.sampling.variants,
        template=PromptTemplate(job.sources.prompt_template) if job.sources.prompt_template else None,
        **vars(common),
    )


def _side(values: Mapping[str, Any], name: str, default: int, multiple: int) -> int:
    value = given_or(values.get(name), default)
    if value % multiple or not SMALLEST <= value <= LARGEST:
        sentence = f"The {name} is {value}; it should be a multiple of {multiple} between {SMALLEST} and {LARGEST}."
        raise RowError(Problem(name, RowFault.OUT_OF_RANGE, sentence))
    return int(value)

"""Rows of a manifest of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from models.requests import SamplingDefaults
from tasks.job import GenerateJob
from tasks.manifests.known_columns import PROMPTS
from tasks.manifests.manifest import known_values
from tasks.manifests.row import BadRow, Row, check_id, check_length, check_read, given_or, is_blank
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.row_defaults import KnownCheckpoint, RowDefaults, row_defaults, sampled
from tasks.rows.row_variants import check_sides, side_of, variants_of, varied
from tasks.rows.text_template import TextTemplate, extra_values


@dataclass(frozen=True, kw_only=True)
class Defaults(RowDefaults):
    """What a row gets where it says nothing, with what rows of prompts alone have."""

    width: int
    height: int
    variants: int
    template: TextTemplate | None


@dataclass(frozen=True)
class PromptRows:
    """Reads the rows of a manifest of prompts."""

    defaults: Defaults

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""
        extra = extra_values(batch, self.defaults.template.columns if self.defaults.template else ())
        for index, values in enumerate(known_values(batch, PROMPTS)):
            for row in rows_of(values, extra[index] if extra else {}, self.defaults):
                yield index, row

    def keep(self, row: Row) -> None:
        """Do nothing: a prompt stands in the plan."""


def rows_of(values: Mapping[str, Any], carried: Mapping[str, Any], defaults: Defaults) -> Iterator[Row | BadRow]:
    """Give the rows that one manifest row asks for: one, or as many as it wants variants."""
    row_id = values["id"]
    prompt = values.get("prompt") or ""
    try:
        check_id(row_id)
        check_read(values)
        if is_blank(prompt):
            if defaults.template is None:
                raise RowError(Problem("prompt", RowFault.EMPTY, "The prompt is empty."))
            check_read(carried)
            prompt = defaults.template.fill({**carried, **values})
        check_length("prompt", prompt)
        variants = variants_of(values, defaults.variants)
        row = Row(
            id=row_id,
            prompt=prompt,
            width=side_of(values, "width", defaults.width, defaults.size_multiple),
            height=side_of(values, "height", defaults.height, defaults.size_multiple),
            **sampled(values, defaults),
        )
    except RowError as error:
        yield BadRow.of(row_id, prompt, error)
        return
    yield from varied(row, variants)


def job_defaults(job: GenerateJob, known: KnownCheckpoint[SamplingDefaults]) -> Defaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be drawn with them, or the prompt template is wrong.
    """
    common = row_defaults(job, known)
    check_sides(job.sampling.width, job.sampling.height, common.size_multiple)
    return Defaults(
        width=given_or(job.sampling.width, known.defaults.width),
        height=given_or(job.sampling.height, known.defaults.height),
        variants=job.sampling.variants,
        template=TextTemplate(job.sources.prompt_template, "prompt") if job.sources.prompt_template else None,
        **vars(common),
    )

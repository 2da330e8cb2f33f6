"""What a manifest of prompts would make fail, found without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoints.checkpoint import sampling_defaults
from models.requests import QWEN_IMAGE_DEFAULTS
from tasks.job import GenerateJob
from tasks.kinds.generate.prompt_rows import (
    LARGEST,
    MAX_VARIANTS,
    SMALLEST,
    Defaults,
    extra_values,
    job_defaults,
    rows_of,
)
from tasks.kinds.job_kind import ManifestReading
from tasks.kinds.known_checkpoint import known_checkpoint
from tasks.manifests.known_columns import CONTROLLED, PROMPTS, texts
from tasks.manifests.manifest import known_values
from tasks.manifests.row import MAX_PROMPT_CHARACTERS, MAX_STEPS, BadRow
from tasks.manifests.variant_ids import check_variant_ids
from tasks.rows.sound_rows import matches, short, sound_numbers, unsound

WRITTEN = r"[\pL\pN]"  # a text with a letter or digit surely isn't empty


def prompt_reading(job: GenerateJob, pipeline: str) -> ManifestReading:
    """Return how a job reads a manifest of prompts; its checkpoint is for this pipeline."""
    known = known_checkpoint(job, pipeline, sampling_defaults, QWEN_IMAGE_DEFAULTS)
    defaults = job_defaults(job, known)
    return ManifestReading(
        columns=CONTROLLED if job.model.controlnet else PROMPTS,
        template_columns=defaults.template.columns if defaults.template else None,
        bad_rows=partial(_bad_rows, defaults=defaults),
        check=partial(check_variant_ids, default=job.sampling.variants),
    )


def _bad_rows(batch: pa.RecordBatch, defaults: Defaults) -> Iterator[BadRow]:
    rest = unsound(batch, sound_prompts(batch, defaults))
    extra = extra_values(rest, defaults.template)
    for index, values in enumerate(known_values(rest, PROMPTS)):
        first = next(rows_of(values, extra[index] if extra else {}, defaults))
        if isinstance(first, BadRow):
            yield first


def sound_prompts(batch: pa.RecordBatch, defaults: Defaults) -> pa.Array:
    """Return a mask of the rows of a manifest of prompts that are surely right, but perhaps for their profile."""
    bounds = {
        "width": (SMALLEST, LARGEST, defaults.size_multiple),
        "height": (SMALLEST, LARGEST, defaults.size_multiple),
        "steps": (defaults.fewest_steps, MAX_STEPS, 1),
        "variants": (1, MAX_VARIANTS, 1),
    }
    names = batch.schema.names
    prompt = batch.column("prompt") if "prompt" in names else pa.nulls(batch.num_rows, pa.large_string())
    written = pc.and_(matches(prompt, WRITTEN), short(prompt))
    if defaults.template is not None:
        read = [texts(name, batch.column(name)).values for name in defaults.template.columns]
        written = pc.or_(written, _filled(prompt, read, sum(len(text) for text, *_ in defaults.template.parts)))
    return pc.and_(written, sound_numbers(batch, bounds))


def _filled(prompt: pa.Array, read: Sequence[pa.Array], literal: int) -> pa.Array:
    """Return a mask of the rows without a prompt that the template surely fills."""
    filled = pc.or_(pc.is_null(prompt), pc.fill_null(pc.equal(prompt, ""), False))
    length = pa.repeat(pa.scalar(literal, pa.int64()), len(prompt))
    for column in read:
        filled = pc.and_(filled, matches(column, WRITTEN))
        length = pc.add(length, pc.fill_null(pc.utf8_length(column).cast(pa.int64()), 0))
    return pc.and_(filled, pc.less_equal(length, MAX_PROMPT_CHARACTERS))

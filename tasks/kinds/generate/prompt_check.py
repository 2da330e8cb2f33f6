"""What a manifest of prompts would make fail, found without a model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoints.checkpoint import sampling_defaults
from models.requests import QWEN_IMAGE_DEFAULTS
from tasks.job import GenerateJob
from tasks.kinds.generate.prompt_rows import Defaults, job_defaults, rows_of
from tasks.kinds.job_kind import ManifestReading
from tasks.kinds.known_checkpoint import known_checkpoint
from tasks.manifests.known_columns import CONTROLLED, PROMPTS
from tasks.manifests.manifest import known_values
from tasks.manifests.row import MAX_STEPS, BadRow
from tasks.manifests.variant_ids import check_variant_ids
from tasks.rows.row_variants import LARGEST, MAX_VARIANTS, SMALLEST
from tasks.rows.sound_rows import sound_numbers, sound_texts, unsound
from tasks.rows.text_template import extra_values


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
    extra = extra_values(rest, defaults.template.columns if defaults.template else ())
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
    return pc.and_(sound_texts(batch, "prompt", defaults.template), sound_numbers(batch, bounds))

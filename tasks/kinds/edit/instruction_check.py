"""What a manifest of pictures and instructions would make fail, found without a model or a picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoints.checkpoint import declared_pipeline, edit_defaults
from models.pipelines import PIPELINES
from models.requests import QWEN_IMAGE_EDIT_PLUS_DEFAULTS
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.instruction_rows import SEEN, EditRowDefaults, asked_of, edit_row_defaults, filling_values
from tasks.kinds.job_kind import ManifestReading
from tasks.kinds.known_checkpoint import known_checkpoint
from tasks.manifests.known_columns import EDITS, texts
from tasks.manifests.manifest import known_values
from tasks.manifests.row import CONTROL_TOKEN, MAX_STEPS, BadRow
from tasks.manifests.row_error import RowError
from tasks.manifests.variant_ids import check_variant_ids
from tasks.rows.row_variants import LARGEST, MAX_VARIANTS, SMALLEST
from tasks.rows.sound_rows import matches, short, sound_numbers, sound_texts, unsound


def instruction_reading(job: EditJob, pipeline: str) -> ManifestReading:
    """Return how a job reads a manifest of pictures and instructions; its checkpoint does this pipeline's work."""
    known = known_checkpoint(job, pipeline, edit_defaults, QWEN_IMAGE_EDIT_PLUS_DEFAULTS)
    declared = declared_pipeline(job.model.model, job.model.revision)
    most_pictures = PIPELINES[declared if declared in PIPELINES else pipeline].most_pictures
    defaults = edit_row_defaults(job, known, most_pictures)
    return ManifestReading(
        columns=EDITS,
        template_columns=defaults.columns,
        named_columns=defaults.ready_made.places,
        bad_rows=partial(_bad_rows, defaults=defaults),
        check=partial(check_variant_ids, default=job.sampling.variants),
    )


def _bad_rows(batch: pa.RecordBatch, defaults: EditRowDefaults) -> Iterator[BadRow]:
    rest = unsound(batch, sound_instructions(batch, defaults))
    values = known_values(rest, EDITS)
    for row, carried in zip(values, filling_values(rest, defaults), strict=True):
        try:
            asked_of(row, carried, defaults)
        except RowError as error:
            yield BadRow.of(row["id"], row.get("instruction") or "", error)


def sound_instructions(batch: pa.RecordBatch, defaults: EditRowDefaults) -> pa.Array:
    """Return a mask of the rows of a manifest that are surely right, but perhaps for their pictures and profile."""
    bounds = {
        "width": (SMALLEST, LARGEST, defaults.size_multiple),
        "height": (SMALLEST, LARGEST, defaults.size_multiple),
        "steps": (defaults.fewest_steps, MAX_STEPS, 1),
        "variants": (1, MAX_VARIANTS, 1),
    }
    sound = pc.and_(sound_texts(batch, "instruction", defaults.template), sound_numbers(batch, bounds))
    if "negative_prompt" in batch.schema.names:
        sound = pc.and_(sound, short(batch.column("negative_prompt")))
    for name in {"instruction", "negative_prompt", *(defaults.template.columns if defaults.template else ())}:
        if name in batch.schema.names:
            sound = pc.and_(sound, pc.invert(matches(texts(name, batch.column(name)).values, CONTROL_TOKEN.pattern)))
    if "instruction_name" in batch.schema.names:  # unknown ones fail their rows
        named = batch.column("instruction_name")
        known = pc.is_in(named, value_set=pa.array([*defaults.ready_made.instructions], named.type))
        sound = pc.and_(sound, pc.or_(known, pc.is_null(named)))
    if "keep" in batch.schema.names:
        sound = pc.and_(sound, pc.is_null(batch.column("keep")))
    if defaults.keep == "product" and "instruction_name" in batch.schema.names:  # which may change the product
        sound = pc.and_(sound, pc.is_null(batch.column("instruction_name")))
    if defaults.most_pictures < len(SEEN):  # whoever has them is looked at
        for name in {*EDITS.further} & {*batch.schema.names}:
            sound = pc.and_(sound, pc.is_null(batch.column(name)))
    return sound

"""What a manifest of source pictures would make fail, found without a model or a picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoints.checkpoint import layers_defaults
from models.requests import QWEN_IMAGE_LAYERED_DEFAULTS
from tasks.job import DecomposeJob
from tasks.job_sections import MOST_LAYERS
from tasks.kinds.decompose.picture_rows import RESOLUTIONS, LayerDefaults, asked_of, layer_defaults
from tasks.kinds.job_kind import ManifestReading
from tasks.kinds.known_checkpoint import known_checkpoint
from tasks.manifests.known_columns import PICTURES
from tasks.manifests.row import MAX_STEPS, BadRow
from tasks.rows.sound_rows import short, sound_numbers, unsound
from tasks.rows.source_rows import bad_source_rows


def picture_reading(job: DecomposeJob, pipeline: str) -> ManifestReading:
    """Return how a job reads a manifest of source pictures; its checkpoint is for this pipeline."""
    known = known_checkpoint(job, pipeline, layers_defaults, QWEN_IMAGE_LAYERED_DEFAULTS)
    defaults = layer_defaults(job, known)
    return ManifestReading(columns=PICTURES, template_columns=None, bad_rows=partial(_bad_rows, defaults=defaults))


def _bad_rows(batch: pa.RecordBatch, defaults: LayerDefaults) -> Iterator[BadRow]:
    rest = unsound(batch, sound_pictures(batch, defaults))
    return bad_source_rows(rest, PICTURES, partial(asked_of, defaults=defaults))


def sound_pictures(batch: pa.RecordBatch, defaults: LayerDefaults) -> pa.Array:
    """Return a mask of the rows of a manifest of pictures that are surely right, but perhaps for those and profiles."""
    bounds = {
        "layers": (1, MOST_LAYERS, 1),
        "resolution": (RESOLUTIONS[0], RESOLUTIONS[-1], 1),
        "steps": (defaults.fewest_steps, MAX_STEPS, 1),
    }
    sound = sound_numbers(batch, bounds)
    return pc.and_(sound, short(batch.column("caption"))) if "caption" in batch.schema.names else sound

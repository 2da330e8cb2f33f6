"""A decompose job with its models found, and its values resolved against what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from models.checkpoints.checkpoint import layers_defaults, size_multiple, writes_captions
from models.checkpoints.lora import find_loras
from models.checkpoints.schedule import fewest_steps, resolve_scheduler
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.job import DecomposeJob
from tasks.kinds.decompose.layer_spec import LayerSpec
from tasks.kinds.decompose.picture_rows import LayerDefaults, PictureRows, layer_defaults
from tasks.kinds.job_kind import Resolved
from tasks.kinds.job_marking import marking_of
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.ledger.plan import Rows
from tasks.manifests.known_columns import PICTURES
from tasks.manifests.row import given_or
from tasks.sources.intake import Intake
from tasks.stores.store import Store


def resolve_layers(job: DecomposeJob, pipeline: str) -> Resolved:
    """Find a job's checkpoint, which is for this pipeline, and its LoRAs, and resolve its values.

    Raises:
        RequestError, CheckpointError: see `tasks.kinds.job_kind.JobKind.resolve`.
    """
    checkpoint = find_checkpoint(job.model.model, job.model.revision, pipeline=pipeline)
    loras = find_loras(job.model.loras, checkpoint)
    scheduler = resolve_scheduler(job.model.scheduler, loras)
    sampling = layers_defaults(checkpoint)
    result_spec = LayerSpec(
        intake=intake_of(job.manifest, job.sources),
        cfg_normalize=given_or(job.sampling.cfg_normalize, sampling.cfg_normalize),
        use_en_prompt=job.sources.use_en_prompt,
        writes_captions=writes_captions(checkpoint),
        psd=job.output.psd,
        flatten=job.output.flatten,
        marking=marking_of(job.marketplace),
    )
    defaults = layer_defaults(
        job, sampling, fewest_steps=fewest_steps(checkpoint, scheduler), size_multiple=size_multiple(checkpoint)
    )
    return Resolved(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        result_spec=result_spec,
        columns=PICTURES,
        template_columns=None,
        reader=partial(_rows, defaults, result_spec.intake),
    )


@contextmanager
def _rows(defaults: LayerDefaults, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with opened_originals(intake, store) as originals:
        yield PictureRows(defaults, originals)

"""A decompose job with its models found, and its values resolved against what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from models.checkpoints.checkpoint import layers_defaults, writes_captions
from tasks.job import DecomposeJob
from tasks.kinds.decompose.layer_spec import LayerSpec
from tasks.kinds.decompose.picture_rows import LayerDefaults, layer_defaults, picture_rows
from tasks.kinds.found_models import find_models
from tasks.kinds.job_finishing import marking_of
from tasks.kinds.job_kind import Resolved
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
    models = find_models(job, pipeline)
    sampling = layers_defaults(models.checkpoint)
    result_spec = LayerSpec(
        intake=intake_of(job.manifest, job.sources),
        cfg_normalize=given_or(job.sampling.cfg_normalize, sampling.cfg_normalize),
        use_en_prompt=job.sources.use_en_prompt,
        writes_captions=writes_captions(models.checkpoint),
        psd=job.output.psd,
        flatten=job.output.flatten,
        marking=marking_of(job.marketplace),
    )
    return Resolved(
        models=models,
        result_spec=result_spec,
        columns=PICTURES,
        template_columns=None,
        reader=partial(_rows, layer_defaults(job, models.known(sampling)), result_spec.intake),
    )


@contextmanager
def _rows(defaults: LayerDefaults, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with opened_originals(intake, store) as originals:
        yield picture_rows(defaults, originals)

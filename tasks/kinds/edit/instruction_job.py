"""An edit job with its models found, and its values resolved against what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from models.checkpoints.checkpoint import Checkpoint, check_condition_cache, edit_defaults, pipeline_of
from models.pipelines import LAYERED
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.edit_spec import EditSpec
from tasks.kinds.edit.instruction_rows import EditRowDefaults, InstructionRows, edit_row_defaults
from tasks.kinds.edit.mask_finder import finding_of
from tasks.kinds.found_models import find_models
from tasks.kinds.job_finishing import finishing_of
from tasks.kinds.job_kind import Resolved
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.ledger.plan import Rows
from tasks.manifests.known_columns import EDITS
from tasks.sources.intake import Intake
from tasks.stores.store import Store


def resolve_edits(job: EditJob, pipeline: str) -> Resolved:
    """Find a job's checkpoint, which does the work of this pipeline, and its LoRAs, and resolve its values.

    Raises:
        RequestError, CheckpointError: see `tasks.kinds.job_kind.JobKind.resolve`.
    """
    models = find_models(job, pipeline)
    check_condition_cache(models.checkpoint, job.model.condition_cache)
    known, mask_model = models.known(edit_defaults(models.checkpoint)), _mask_model(job)
    finding = finding_of(mask_model) if mask_model else None
    defaults = edit_row_defaults(job, known, pipeline_of(models.checkpoint).most_pictures, finding)
    result_spec = EditSpec(
        intake_of(job.manifest, job.sources),
        finishing_of(job.output, job.marketplace),
        defaults.resolution,
        defaults.vision_resolution,
        defaults.size_multiple,
        defaults.ready_made.instructions,
        job.model.condition_cache,
        defaults.reads_texts,
        mask_model,
    )
    return Resolved(
        models=models,
        result_spec=result_spec,
        columns=EDITS,
        template_columns=defaults.columns,
        reader=partial(_rows, defaults, result_spec.intake),
        beside={"mask_model": mask_model} if mask_model else {},
    )


def _mask_model(job: EditJob) -> Checkpoint | None:
    if job.model.mask_model is None:
        return None
    return find_checkpoint(job.model.mask_model, job.model.mask_model_revision, pipeline=LAYERED.name)


@contextmanager
def _rows(defaults: EditRowDefaults, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with opened_originals(intake, store) as originals:
        yield InstructionRows(defaults, originals)

"""A generate job with its models found, and its values resolved against what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from models.checkpoints.checkpoint import Checkpoint, sampling_defaults
from tasks.checkpoints.checkpoints import find_controlnet
from tasks.job import GenerateJob
from tasks.kinds.found_models import find_models
from tasks.kinds.generate.controlled_rows import ControlledRows
from tasks.kinds.generate.picture_spec import Control, PictureSpec
from tasks.kinds.generate.prompt_rows import PromptRows, job_defaults
from tasks.kinds.job_finishing import finishing_of
from tasks.kinds.job_kind import Resolved
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.ledger.plan import Rows
from tasks.manifests.known_columns import CONTROLLED, PROMPTS
from tasks.sources.intake import Intake
from tasks.stores.store import Store


def resolve_prompts(job: GenerateJob, pipeline: str) -> Resolved:
    """Find a job's checkpoint, which is for this pipeline, its LoRAs and ControlNet, and resolve its values.

    Raises:
        RequestError, CheckpointError: see `tasks.kinds.job_kind.JobKind.resolve`.
    """
    models = find_models(job, pipeline)
    defaults = job_defaults(job, models.known(sampling_defaults(models.checkpoint)))
    prompts, control = PromptRows(defaults), _control(job, models.checkpoint)
    return Resolved(
        models=models,
        result_spec=PictureSpec(finishing_of(job.output, job.marketplace), control),
        columns=CONTROLLED if control else PROMPTS,
        template_columns=defaults.template.columns if defaults.template else None,
        reader=partial(_controlled_rows, prompts, control.intake) if control else lambda _: nullcontext(prompts),
        beside={"controlnet": control.controlnet} if control else {},
    )


def _control(job: GenerateJob, checkpoint: Checkpoint) -> Control | None:
    if job.model.controlnet is None:
        return None
    controlnet = find_controlnet(job.model.controlnet, job.model.controlnet_revision, checkpoint)
    return Control(controlnet, job.model.controlnet_scale, intake_of(job.manifest, job.sources))


@contextmanager
def _controlled_rows(prompts: PromptRows, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with opened_originals(intake, store) as originals:
        yield ControlledRows(prompts, originals)

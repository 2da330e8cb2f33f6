"""A generate job with its models found, and its values resolved against what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from models.checkpoints.checkpoint import Checkpoint, sampling_defaults, size_multiple
from models.checkpoints.lora import find_loras
from models.checkpoints.schedule import fewest_steps, resolve_scheduler
from tasks.checkpoints.checkpoints import find_checkpoint, find_controlnet
from tasks.job import GenerateJob
from tasks.kinds.generate.controlled_rows import ControlledRows
from tasks.kinds.generate.picture_making import Control, Pictures
from tasks.kinds.generate.prompt_rows import PromptRows, job_defaults
from tasks.kinds.job_kind import Resolved
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.ledger.plan import Rows
from tasks.manifests.known_columns import CONTROLLED, PROMPTS
from tasks.results.encoding import Encoding
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.sources.intake import Intake
from tasks.stores.store import Store


def resolve_prompts(job: GenerateJob, pipeline: str) -> Resolved:
    """Find a job's checkpoint, which is for this pipeline, its LoRAs and ControlNet, and resolve its values.

    Raises:
        RequestError, CheckpointError: see `tasks.kinds.job_kind.JobKind.resolve`.
    """
    checkpoint = find_checkpoint(job.model, job.revision, pipeline=pipeline)
    loras = find_loras(job.loras, checkpoint)
    scheduler = resolve_scheduler(job.scheduler, loras)
    defaults = job_defaults(
        job,
        sampling_defaults(checkpoint),
        fewest_steps=fewest_steps(checkpoint, scheduler),
        size_multiple=size_multiple(checkpoint),
    )
    prompts, control = PromptRows(defaults), _control(job, checkpoint)
    return Resolved(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        making=Pictures(
            Encoding(job.format, job.quality),
            control,
            Retouching(snap_white=job.snap_white, pad_square=job.pad_square),
            Marking(job.aigc_producer, job.c2pa_certificate, job.c2pa_key),
        ),
        columns=CONTROLLED if control else PROMPTS,
        template_columns=defaults.template.columns if defaults.template else None,
        reader=partial(_controlled_rows, prompts, control.intake) if control else lambda _: nullcontext(prompts),
        controlnet=control.controlnet if control else None,
    )


def _control(job: GenerateJob, checkpoint: Checkpoint) -> Control | None:
    if job.controlnet is None:
        return None
    controlnet = find_controlnet(job.controlnet, job.controlnet_revision, checkpoint)
    return Control(controlnet, job.controlnet_scale, intake_of(job))


@contextmanager
def _controlled_rows(prompts: PromptRows, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with opened_originals(intake, store) as originals:
        yield ControlledRows(prompts, originals)

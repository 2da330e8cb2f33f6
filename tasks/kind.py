"""The two kinds of job: their checkpoints, and how the rows of their manifests are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from models.checkpoint import (
    Checkpoint,
    find_checkpoint,
    layers_defaults,
    sampling_defaults,
    size_multiple,
    writes_captions,
)
from models.lora import Lora, find_loras
from models.schedule import Scheduler, fewest_steps, resolve_scheduler
from tasks.encoding import Encoding
from tasks.job import DecomposeJob, GenerateJob, Job
from tasks.making import Decomposition, Pictures
from tasks.manifest import PICTURES, PROMPTS, Columns
from tasks.picture_rows import PictureRows, layer_defaults
from tasks.plan import Rows
from tasks.prompt_rows import PromptRows, job_defaults
from tasks.row import given_or
from tasks.source import folder_of
from tasks.store import Store

MEASURING = 4  # processes that look at the headers of source pictures


@dataclass(frozen=True)
class Kind:
    """What sets one kind of job apart before its lanes start."""

    checkpoint: Checkpoint
    loras: tuple[Lora, ...]  # that are merged into it
    scheduler: Scheduler
    making: Pictures | Decomposition
    columns: Columns  # of its manifest
    template_columns: tuple[str, ...] | None  # what its prompt template reads, None when it has none
    reader: Callable[[Store | None], AbstractContextManager[Rows]]
    """Opens what reads rows; pictures that a manifest holds are put into the store for the lanes, if one is given."""


def kind_of(job: Job) -> Kind:
    """Find a job's checkpoint and LoRAs, and resolve what its kind alone decides.

    Raises:
        RequestError: if a value can't be.
        CheckpointError: if there is no such checkpoint, it is of the other kind, or a LoRA isn't for it.
    """
    if isinstance(job, DecomposeJob):
        return _decomposition(job)
    assert isinstance(job, GenerateJob)
    return _pictures(job)


def _pictures(job: GenerateJob) -> Kind:
    checkpoint = find_checkpoint(job.model, job.revision)
    loras = find_loras(job.loras, checkpoint)
    scheduler = resolve_scheduler(job.scheduler, loras)
    defaults = job_defaults(
        job,
        sampling_defaults(checkpoint),
        fewest_steps=fewest_steps(checkpoint, scheduler),
        size_multiple=size_multiple(checkpoint),
    )
    template = defaults.template
    return Kind(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        making=Pictures(Encoding(job.format, job.quality)),
        columns=PROMPTS,
        template_columns=template.columns if template else None,
        reader=lambda _: nullcontext(PromptRows(defaults)),
    )


def _decomposition(job: DecomposeJob) -> Kind:
    checkpoint = find_checkpoint(job.model, job.revision, pipeline="QwenImageLayeredPipeline")
    loras = find_loras(job.loras, checkpoint)
    scheduler = resolve_scheduler(job.scheduler, loras)
    sampling = layers_defaults(checkpoint)
    making = Decomposition(
        folder=folder_of(job.manifest),
        image_hosts=job.image_hosts,
        max_image_bytes=job.max_image_bytes,
        max_image_pixels=job.max_image_pixels,
        cfg_normalize=given_or(job.cfg_normalize, sampling.cfg_normalize),
        use_en_prompt=job.use_en_prompt,
        writes_captions=writes_captions(checkpoint),
        psd=job.psd,
    )
    sources = making.sources()  # refuses hosts that aren't any
    defaults = layer_defaults(
        job, sampling, fewest_steps=fewest_steps(checkpoint, scheduler), size_multiple=size_multiple(checkpoint)
    )

    @contextmanager
    def reader(store: Store | None) -> Iterator[Rows]:
        with making.decoder(MEASURING) as decoder:
            yield PictureRows(defaults, sources, decoder, store)

    return Kind(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        making=making,
        columns=PICTURES,
        template_columns=None,
        reader=reader,
    )

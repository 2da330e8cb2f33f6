"""The two kinds of job: their checkpoints, and how the rows of their manifests are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from models.checkpoints.checkpoint import Checkpoint, layers_defaults, sampling_defaults, size_multiple, writes_captions
from models.checkpoints.lora import Lora, find_loras
from models.checkpoints.schedule import Scheduler, fewest_steps, resolve_scheduler
from tasks.checkpoints.checkpoints import find_checkpoint, find_controlnet
from tasks.job import DecomposeJob, GenerateJob, Job
from tasks.lane.job_specs import Control, Decomposition, Pictures
from tasks.ledger.plan import Rows
from tasks.manifests.known_columns import CONTROLLED, PICTURES, PROMPTS, Columns
from tasks.manifests.row import given_or
from tasks.results.encoding import Encoding
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.rows.controlled_rows import ControlledRows
from tasks.rows.originals import Originals
from tasks.rows.picture_rows import PictureRows, layer_defaults
from tasks.rows.prompt_rows import PromptRows, job_defaults
from tasks.sources.intake import Intake
from tasks.sources.source import folder_of
from tasks.stores.store import Store

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

    @property
    def controlnet(self) -> Checkpoint | None:
        """What pictures are drawn with after control pictures, if they are."""
        control = self.making.control if isinstance(self.making, Pictures) else None
        return control.controlnet if control else None


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
    template, prompts, control = defaults.template, PromptRows(defaults), _control(job, checkpoint)
    return Kind(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        making=Pictures(
            Encoding(job.format, job.quality),
            control,
            Retouching(snap_white=job.snap_white, pad_square=job.pad_square),
            _marking(job),
        ),
        columns=CONTROLLED if control else PROMPTS,
        template_columns=template.columns if template else None,
        reader=partial(_controlled_rows, prompts, control.intake) if control else lambda _: nullcontext(prompts),
    )


def _control(job: GenerateJob, checkpoint: Checkpoint) -> Control | None:
    if job.controlnet is None:
        return None
    controlnet = find_controlnet(job.controlnet, job.controlnet_revision, checkpoint)
    return Control(controlnet, job.controlnet_scale, _intake(job))


@contextmanager
def _controlled_rows(prompts: PromptRows, intake: Intake, store: Store | None) -> Iterator[Rows]:
    with _originals(intake, store) as originals:
        yield ControlledRows(prompts, originals)


def _decomposition(job: DecomposeJob) -> Kind:
    checkpoint = find_checkpoint(job.model, job.revision, pipeline="QwenImageLayeredPipeline")
    loras = find_loras(job.loras, checkpoint)
    scheduler = resolve_scheduler(job.scheduler, loras)
    sampling = layers_defaults(checkpoint)
    making = Decomposition(
        intake=_intake(job),
        cfg_normalize=given_or(job.cfg_normalize, sampling.cfg_normalize),
        use_en_prompt=job.use_en_prompt,
        writes_captions=writes_captions(checkpoint),
        psd=job.psd,
        flatten=job.flatten,
        marking=_marking(job),
    )
    defaults = layer_defaults(
        job, sampling, fewest_steps=fewest_steps(checkpoint, scheduler), size_multiple=size_multiple(checkpoint)
    )

    @contextmanager
    def reader(store: Store | None) -> Iterator[Rows]:
        with _originals(making.intake, store) as originals:
            yield PictureRows(defaults, originals)

    return Kind(
        checkpoint=checkpoint,
        loras=loras,
        scheduler=scheduler,
        making=making,
        columns=PICTURES,
        template_columns=None,
        reader=reader,
    )


def _marking(job: Job) -> Marking:
    return Marking(job.aigc_producer, job.c2pa_certificate, job.c2pa_key)


def _intake(job: Job) -> Intake:
    intake = Intake(folder_of(job.manifest), job.image_hosts, job.max_image_bytes, job.max_image_pixels)
    intake.sources()  # refuses hosts that aren't any
    return intake


@contextmanager
def _originals(intake: Intake, store: Store | None) -> Iterator[Originals]:
    with intake.decoder(MEASURING) as decoder:
        yield Originals(intake.sources(), decoder, store)

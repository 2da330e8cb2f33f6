"""Generate: what sets a job apart that makes pictures from prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safety.marks.provenance import DigitalSourceType
from tasks.job import GenerateJob
from tasks.kinds.job_kind import JobKind, ManifestReading, Resolved

if TYPE_CHECKING:
    from models.engines.generator import Generator
    from tasks.lane.lane_resources import LaneResources
    from tasks.lane.lane_spec import LaneSpec
    from tasks.lane.picture_stages import PictureStages

PIPELINE = "QwenImagePipeline"


def _resolve(job: GenerateJob) -> Resolved:
    from tasks.kinds.generate.prompt_job import resolve_prompts

    return resolve_prompts(job, PIPELINE)


def _reading(job: GenerateJob) -> ManifestReading:
    from tasks.kinds.generate.prompt_check import prompt_reading

    return prompt_reading(job, PIPELINE)


def _open_engine(spec: LaneSpec) -> Generator:
    from tasks.kinds.generate.drawing import open_generator

    return open_generator(spec)


def _open_stages(resources: LaneResources) -> PictureStages:
    from tasks.kinds.generate.drawing import open_stages

    return open_stages(resources, GENERATE.source_type)


def _controlnet_of(job: GenerateJob) -> tuple[str, str | None] | None:
    return (job.model.controlnet, job.model.controlnet_revision) if job.model.controlnet else None


GENERATE = JobKind(
    name="generate",
    does="Generate the pictures of a manifest of prompts, and say what became of every row.",
    job=GenerateJob,
    pipeline=PIPELINE,
    told_by=("prompt",),
    row_fields=("prompt_template", "width", "height", "variants", "controlnet"),
    text_column="prompt",  # also of rows that are drawn after a picture
    source_type=DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    gives_pictures=True,
    resolve=_resolve,
    reading=_reading,
    open_engine=_open_engine,
    open_stages=_open_stages,
    controlnet_of=_controlnet_of,
)

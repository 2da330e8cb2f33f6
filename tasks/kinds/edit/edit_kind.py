"""Edit: what sets a job apart that changes source pictures as instructions ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safety.marks.provenance import DigitalSourceType
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.job_kind import JobKind, ManifestReading, Resolved

if TYPE_CHECKING:
    from models.engines.editor import PictureEditor
    from tasks.kinds.edit.edit_stages import EditStages
    from tasks.lane.lane_resources import LaneResources
    from tasks.lane.lane_spec import LaneSpec

PIPELINE = "QwenImageEditPlusPipeline"


def _resolve(job: EditJob) -> Resolved:
    from tasks.kinds.edit.instruction_job import resolve_edits

    return resolve_edits(job, PIPELINE)


def _reading(job: EditJob) -> ManifestReading:
    from tasks.kinds.edit.instruction_check import instruction_reading

    return instruction_reading(job, PIPELINE)


def _mask_model_of(job: EditJob) -> tuple[str, str | None] | None:
    return (job.model.mask_model, job.model.mask_model_revision) if job.model.mask_model else None


def _open_engine(spec: LaneSpec) -> PictureEditor:
    from tasks.kinds.edit.edit_stages import open_editor

    return open_editor(spec)


def _open_stages(resources: LaneResources) -> EditStages:
    from tasks.kinds.edit.edit_stages import open_stages

    return open_stages(resources, EDIT.source_type)


EDIT = JobKind(
    name="edit",
    does="Edit the pictures of a manifest as its instructions ask, and say what became of every row.",
    job=EditJob,
    pipeline=PIPELINE,
    told_by=("image", "instruction"),
    row_fields=("instruction_template", "instruction_name", "instructions", "keep", "width", "height", "variants"),
    text_column="prompt",
    source_type=DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    gives_pictures=True,
    made="edited",
    resolve=_resolve,
    reading=_reading,
    open_engine=_open_engine,
    open_stages=_open_stages,
    mask_model_of=_mask_model_of,
)

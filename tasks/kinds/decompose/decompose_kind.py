"""Decompose: what sets a job apart that takes source pictures apart into layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safety.marks.provenance import DigitalSourceType
from tasks.job import DecomposeJob
from tasks.kinds.job_kind import JobKind, ManifestReading, Resolved

if TYPE_CHECKING:
    from models.engines.decomposer import Decomposer
    from tasks.kinds.decompose.layer_stages import LayerStages
    from tasks.lane.lane_resources import LaneResources
    from tasks.lane.lane_spec import LaneSpec

PIPELINE = "QwenImageLayeredPipeline"


def _resolve(job: DecomposeJob) -> Resolved:
    from tasks.kinds.decompose.layer_job import resolve_layers

    return resolve_layers(job, PIPELINE)


def _reading(job: DecomposeJob) -> ManifestReading:
    from tasks.kinds.decompose.picture_check import picture_reading

    return picture_reading(job, PIPELINE)


def _open_engine(spec: LaneSpec) -> Decomposer:
    from tasks.kinds.decompose.taking_apart import open_decomposer

    return open_decomposer(spec)


def _open_stages(resources: LaneResources) -> LayerStages:
    from tasks.kinds.decompose.taking_apart import open_stages

    return open_stages(resources, DECOMPOSE.source_type)


DECOMPOSE = JobKind(
    name="decompose",
    does="Take the pictures of a manifest apart into layers, and say what became of every row.",
    job=DecomposeJob,
    pipeline=PIPELINE,
    told_by=("image",),
    row_fields=("layers", "resolution"),
    text_column="caption",
    source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
    gives_pictures=False,
    resolve=_resolve,
    reading=_reading,
    open_engine=_open_engine,
    open_stages=_open_stages,
)

"""What a lane takes source pictures apart with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.checkpoints.checkpoint import weight_files
from models.files.read_ahead import reading_ahead
from safety.marks.provenance import DigitalSourceType
from tasks.kinds.decompose.layer_spec import LayerSpec
from tasks.kinds.decompose.layer_stages import LayerStages
from tasks.lane.lane_resources import LaneResources, load_engine
from tasks.lane.lane_spec import LaneSpec

if TYPE_CHECKING:
    from models.engines.decomposer import Decomposer


def open_decomposer(spec: LaneSpec) -> Decomposer:
    """Load the model."""
    with reading_ahead(weight_files(spec.checkpoint)):
        from models.engines.decomposer import Decomposer  # imports torch and diffusers, which takes seconds

        return load_engine(Decomposer, spec)


def open_stages(resources: LaneResources, source_type: DigitalSourceType) -> LayerStages:
    """Open what the stages of a lane do with source pictures."""
    result_spec = resources.spec.result_spec
    assert isinstance(result_spec, LayerSpec)
    return LayerStages(resources, result_spec, source_type)

"""What a lane draws prompts with, after control pictures where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.checkpoints.checkpoint import weight_files
from models.files.read_ahead import reading_ahead
from models.requests import PictureRequest, Shape
from safety.marks.provenance import DigitalSourceType
from tasks.kinds.generate.picture_spec import PictureSpec
from tasks.lane.lane_resources import LaneResources, load_engine
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import Screened
from tasks.manifests.row import Row

if TYPE_CHECKING:
    from models.engines.engine import Admit
    from models.engines.generator import Generator
    from models.engines.made_picture import Picture


def open_generator(spec: LaneSpec) -> Generator:
    """Load the model, and the ControlNet if there is one."""
    assert isinstance(spec.result_spec, PictureSpec)
    control = spec.result_spec.control
    controlnet, scale = (control.controlnet, control.scale) if control else (None, 1.0)
    with reading_ahead(weight_files(spec.checkpoint, controlnet)):
        from models.engines.generator import Generator  # imports torch and diffusers, which takes seconds

        return load_engine(Generator, spec, controlnet=controlnet, controlnet_scale=scale)


def open_stages(resources: LaneResources, source_type: DigitalSourceType) -> PictureStages:
    """Open what the stages of a lane do with prompts."""
    result_spec = resources.spec.result_spec
    assert isinstance(result_spec, PictureSpec)

    def draw(rows: Sequence[Row], screened: Screened, admit: Admit | None) -> Iterator[Sequence[Picture]]:
        requests = [request_of(row, *screened.sources[row.id]) for row in rows]
        generator: Generator = resources.engine()
        return generator.render(requests, admit=admit)

    control = result_spec.control
    return PictureStages(
        draw, resources, result_spec.finishing, source_type, intake=control.intake if control else None, conditions=True
    )


def request_of(row: Row, control: np.ndarray | None = None) -> PictureRequest:
    """Return what the engine is asked for; `control` is the row's control picture, uint8 [H, W, 3], if it has one."""
    shape = Shape(row.width, row.height, row.steps, row.guidance)
    return PictureRequest(row.prompt, row.negative_prompt, row.seed, shape, control)

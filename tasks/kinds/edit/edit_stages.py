"""What the stages of a lane do with pictures and instructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from models.checkpoints.checkpoint import weight_files
from models.files.read_ahead import reading_ahead
from models.requests import ConditionPicture, EditPicture, EditRequest, SeenPicture, Shape, edit_size
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.instruction import Instruction
from safety.marks.provenance import DigitalSourceType
from safety.verdict import Verdict, allow
from tasks.kinds.edit.edit_spec import EditSpec
from tasks.lane.lane_resources import LaneResources, load_engine
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.original_reader import resized_to
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import RowOriginals, Screened
from tasks.manifests.row import PlannedPicture, Row
from tasks.outcome import Outcome
from tasks.results.master import Master
from tasks.sources.source_error import SourceError

if TYPE_CHECKING:
    from models.engines.editor import PictureEditor
    from models.engines.engine import Admit, Picture

Looked = tuple[np.ndarray, np.ndarray]
"""A picture as the VAE encodes it and as the text encoder sees it, both uint8 [H, W, 3]."""


def open_editor(spec: LaneSpec) -> PictureEditor:
    """Load the model."""
    assert isinstance(spec.result_spec, EditSpec)
    with reading_ahead(weight_files(spec.checkpoint)):
        from models.engines.editor import PictureEditor  # imports torch and diffusers, which takes seconds

        return load_engine(PictureEditor, spec, condition_cache=spec.result_spec.condition_cache)


def open_stages(resources: LaneResources, source_type: DigitalSourceType) -> EditStages:
    """Open what the stages of a lane do with pictures and instructions."""
    result_spec = resources.spec.result_spec
    assert isinstance(result_spec, EditSpec)
    return EditStages(resources, result_spec, source_type)


class EditStages(PictureStages):
    """Pictures and instructions in, pictures out."""

    def __init__(self, resources: LaneResources, result_spec: EditSpec, source_type: DigitalSourceType) -> None:
        """`source_type` says how the pictures come about."""
        super().__init__(
            self._edit,
            resources,
            result_spec.finishing,
            source_type,
            intake=None,
            conditions=False,
            compare=partial(compare_edit, result_spec.instructions),
            shows_prompts=False,
        )
        self.engine, self.result_spec = resources.engine, result_spec
        self.reader = resources.original_reader(result_spec.intake, keeps_alpha=False)

    def read_originals(self, rows: Sequence[Row], masters: Mapping[str, Master]) -> list[RowOriginals | Outcome]:
        """Read each picture of a shard once, and keep it at the sizes at which the model looks at it."""
        del masters  # what was made says nothing of what it was made from
        distinct = list(dict.fromkeys(picture for row in rows for picture in row.pictures))
        found = dict(zip(distinct, self.pool.map(self._look, distinct), strict=True))
        return [self._originals(row, found) for row in rows]

    def _look(self, picture: PlannedPicture) -> Looked | SourceError:
        return self.reader.reduced(picture, self._at_both_sizes)

    def _at_both_sizes(self, pixels: np.ndarray) -> Looked:
        height, width = pixels.shape[:2]
        spec = self.result_spec
        encoded = edit_size(width, height, spec.resolution, spec.size_multiple)
        return resized_to(pixels, encoded), resized_to(pixels, edit_size(width, height, spec.vision_resolution, 1))

    def _originals(self, row: Row, found: Mapping[PlannedPicture, Looked | SourceError]) -> RowOriginals | Outcome:
        looked = [found[picture] for picture in row.pictures]
        for one in looked:
            if isinstance(one, SourceError):
                return self.reader.failed(row, one)
        encoded, seen = zip(*looked, strict=True)
        return RowOriginals(row, encoded, seen)

    def _edit(self, rows: Sequence[Row], screened: Screened, admit: Admit | None) -> Iterator[Sequence[Picture]]:
        pairs = {row.id: [*zip(screened.sources[row.id], screened.seen[row.id], strict=True)] for row in rows}
        distinct = {id(encoded): (encoded, seen) for some in pairs.values() for encoded, seen in some}
        pictures = {at: edit_picture(*pair) for at, pair in distinct.items()}  # rows may share one
        requests = [edit_request(row, [pictures[id(encoded)] for encoded, _ in pairs[row.id]]) for row in rows]
        editor: PictureEditor = self.engine()
        return editor.edit(requests, admit=admit)


def compare_edit(
    instructions: Mapping[str, Instruction], row: Row, originals: tuple[np.ndarray, ...], picture: np.ndarray
) -> Verdict:
    """Judge an edit by the checks of its ready-made instruction; one in words of its own alone has none."""
    if row.instruction_name is None:
        return allow()
    return judge_edit(originals[0], picture, instructions[row.instruction_name], row.instruction_values)


def edit_request(row: Row, pictures: Sequence[EditPicture]) -> EditRequest:
    """Return what the engine is asked for."""
    shape = Shape(row.width, row.height, row.steps, row.guidance)
    return EditRequest(row.prompt, row.negative_prompt, row.seed, shape, tuple(pictures))


def edit_picture(encoded: np.ndarray, seen: np.ndarray) -> EditPicture:
    """Return a picture as the engine is asked with it, at both of its sizes."""
    height, width = encoded.shape[:2]
    return EditPicture(SeenPicture.of(seen), ConditionPicture(encoded, width, height))

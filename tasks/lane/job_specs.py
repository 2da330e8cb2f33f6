"""What only one kind of job says of how its results are made and stored; plain values, so that they can travel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from models.checkpoints.checkpoint import Checkpoint
from tasks.lane.record import TextColumn
from tasks.results.encoding import Encoding
from tasks.results.layer_shelf import SOURCE_TYPE, LayerShelf
from tasks.results.marking import Marking
from tasks.results.retouching import FLATTEN, Retouching
from tasks.results.shelf import PictureShelf
from tasks.sources.intake import Intake
from tasks.stores.store import Store


@dataclass(frozen=True)
class Control:
    """Of a generate job that draws after control pictures."""

    controlnet: Checkpoint
    scale: float
    intake: Intake  # of control pictures

    @property
    def form(self) -> tuple[str | float, ...]:
        """Its part in the key of a row, beside the hash of the row's control picture."""
        return "control", self.controlnet.revision, self.scale


@dataclass(frozen=True)
class Pictures:
    """Of a generate job."""

    text_column: ClassVar[TextColumn] = "prompt"  # also of rows that are drawn after a picture

    encoding: Encoding
    control: Control | None = None
    retouching: Retouching = field(default_factory=Retouching)
    marking: Marking = field(default_factory=Marking)

    @property
    def form(self) -> tuple[str | float | None, ...]:
        """Its part in the key of a row."""
        control = self.control.form if self.control else ()
        return self.encoding.extension, self.encoding.deciding_quality, *control

    @property
    def finish(self) -> dict[str, Any]:
        """What is done after the model, by name: its part in the key of a row, where there is any."""
        return self.retouching.additions | self.marking.additions

    def shelf(self, store: Store, *, from_before: bool = False) -> PictureShelf:
        """Return what keeps and finds the results."""
        return PictureShelf(store, self.encoding, from_before=from_before)


@dataclass(frozen=True)
class Decomposition:
    """Of a decompose job."""

    text_column: ClassVar[TextColumn] = "caption"

    intake: Intake  # of source pictures
    cfg_normalize: bool
    use_en_prompt: bool
    writes_captions: bool  # whether the checkpoint can
    psd: bool
    flatten: bool = False
    marking: Marking = field(default_factory=Marking)

    @property
    def form(self) -> tuple[str | int | None, ...]:
        """Its part in the key of a row."""
        return "layers", self.cfg_normalize, self.use_en_prompt if self.writes_captions else None

    @property
    def finish(self) -> dict[str, Any]:
        """What is done after the model, by name: its part in the key of a row, where there is any."""
        return ({"fixes": {FLATTEN: 1}} if self.flatten else {}) | self.marking.additions

    def shelf(self, store: Store, *, from_before: bool = False) -> LayerShelf:
        """Return what keeps and finds the results."""
        marker = self.marking.open(SOURCE_TYPE)
        return LayerShelf(store, with_psd=self.psd, flatten=self.flatten, marker=marker, from_before=from_before)

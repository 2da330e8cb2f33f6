"""What a generate job says of how its pictures are made and stored; plain values, which lanes are sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models.checkpoints.checkpoint import Checkpoint
from tasks.results.encoding import Encoding
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.results.shelf import PictureShelf
from tasks.sources.intake import Intake
from tasks.stores.store import Store


@dataclass(frozen=True)
class Control:
    """What a job says that draws after control pictures."""

    controlnet: Checkpoint
    scale: float
    intake: Intake  # of control pictures

    @property
    def form(self) -> tuple[str | float, ...]:
        """Its part in the key of a row, beside the hash of the row's control picture."""
        return "control", self.controlnet.revision, self.scale


@dataclass(frozen=True)
class PictureSpec:
    """What a generate job says."""

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

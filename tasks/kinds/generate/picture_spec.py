"""What a generate job says of how its pictures are made and stored; plain values, which lanes are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.checkpoints.checkpoint import Checkpoint
from tasks.results.finishing import Finishing
from tasks.results.marking import Marking
from tasks.sources.intake import Intake


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

    finishing: Finishing
    control: Control | None = None

    @property
    def marking(self) -> Marking:
        """How results are marked."""
        return self.finishing.marking

    @property
    def form(self) -> tuple[str | float | None, ...]:
        """Its part in the key of a row."""
        return *self.finishing.form, *(self.control.form if self.control else ())

    @property
    def finish(self) -> dict[str, Any]:
        """What is done after the model, by name: its part in the key of a row, where there is any."""
        return self.finishing.additions

"""What an edit job says of how its pictures are made and stored; plain values, which lanes are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.checkpoints.checkpoint import Checkpoint
from safety.fidelity.instruction import Instruction
from tasks.results.finishing import Finishing
from tasks.results.marking import Marking
from tasks.sources.intake import Intake


@dataclass(frozen=True)
class EditSpec:
    """What an edit job says."""

    intake: Intake  # of source pictures and references
    finishing: Finishing
    resolution: int  # see `models.requests.EditDefaults`, as the following ones
    vision_resolution: int
    size_multiple: int  # of the width and height of what the VAE encodes, pixels
    instructions: Mapping[str, Instruction] = field(default_factory=dict)  # ready-made ones, by name
    condition_cache: int = 1  # see `models.transformer.condition_cache`
    reads_texts: bool = False  # those on sources and results are compared, where an instruction's checks ask for it
    mask_model: Checkpoint | None = None  # finds the product where nothing else tells it

    @property
    def marking(self) -> Marking:
        """How results are marked."""
        return self.finishing.marking

    @property
    def form(self) -> tuple[str | int | None, ...]:
        """Its part in the key of a row; at which sizes pictures are looked at is the checkpoint's."""
        return "edit", *self.finishing.form

    @property
    def finish(self) -> dict[str, Any]:
        """What is done after the model, and of the model's work left out, by name: its part in the key of a row."""
        left_out = {"condition_cache": self.condition_cache} if self.condition_cache > 1 else {}
        return left_out | self.finishing.additions

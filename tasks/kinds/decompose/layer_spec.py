"""What a decompose job says of how its layers are made and stored; plain values, which lanes are sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safety.marks.provenance import DigitalSourceType
from tasks.results.layer_shelf import LayerShelf
from tasks.results.marking import Marking
from tasks.results.retouching import FLATTEN
from tasks.sources.intake import Intake
from tasks.stores.store import Store


@dataclass(frozen=True)
class LayerSpec:
    """What a decompose job says."""

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

    def shelf(self, store: Store, source_type: DigitalSourceType, *, from_before: bool = False) -> LayerShelf:
        """Return what keeps and finds the results."""
        marker = self.marking.open(source_type)
        return LayerShelf(store, with_psd=self.psd, flatten=self.flatten, marker=marker, from_before=from_before)

"""What becomes of a picture between the model and the store: its fixes, its marks and its encoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.results.encoding import Encoding
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.results.shelf import PictureShelf
from tasks.stores.store import Store


@dataclass(frozen=True)
class Finishing:
    """How pictures are finished and stored; plain values, which lanes are sent."""

    encoding: Encoding
    retouching: Retouching = field(default_factory=Retouching)
    marking: Marking = field(default_factory=Marking)

    @property
    def form(self) -> tuple[str | int | None, ...]:
        """The encoding's part in the key of a row."""
        return self.encoding.extension, self.encoding.deciding_quality

    @property
    def additions(self) -> dict[str, Any]:
        """What is done after the model, by name: its part in the key of a row, where there is any."""
        return self.retouching.additions | self.marking.additions

    def shelf(self, store: Store, *, from_before: bool = False) -> PictureShelf:
        """Return what keeps and finds the pictures."""
        return PictureShelf(store, self.encoding, from_before=from_before)

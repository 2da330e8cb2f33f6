"""What passes between the stages of a lane, and what a kind of job does in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from safety.marks.marks import Mark
from safety.pictures.picture_file import PictureFile
from safety.verdict import Verdict, allow
from tasks.ledger.decision import Decision, DecisionHistory
from tasks.manifests.row import Row
from tasks.outcome import Outcome
from tasks.results.master import Master
from tasks.results.shelf import Shelf


@dataclass(frozen=True)
class StoredRow:
    """A row whose key is in the store already."""

    row: Row
    master: Master


@dataclass(frozen=True, eq=False)
class RowOriginals:
    """A row, and the pictures that it is made from, uint8 [H, W, 3 or 4]; none where it is made from texts alone."""

    row: Row
    pictures: tuple[np.ndarray, ...] = ()
    seen: tuple[np.ndarray, ...] = ()  # the same ones as the model's text encoder sees them, if it does
    compared: Any = None  # what its result is judged beside, if it is: only its kind knows what that is
    own_words: Sequence[str] | None = None  # what of its prompt classifiers read; None: all of it


@dataclass(frozen=True)
class Screened:
    """A shard after screening. Every row is in exactly one of `to_render`, `found` and `ended`."""

    shard: int
    to_render: list[Row]
    found: list[StoredRow]
    ended: list[Outcome]  # blocked, or without a source picture
    kept: dict[str, Mapping[str, Any]]  # what classifiers keep of the prompts of rows that passed, by id
    histories: dict[str, DecisionHistory] = field(default_factory=dict)  # by id, of the rows that passed
    approved: dict[str, Decision] = field(default_factory=dict)  # by id, of those that passed because a person said so
    sources: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)  # by id, of `to_render`
    seen: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)  # by id, of `to_render`, as `RowOriginals`
    compared: dict[str, Any] = field(default_factory=dict)  # by id, of rows that passed and have some, likewise
    probed: dict[str, Verdict] = field(default_factory=dict)  # what a probe says of rows that passed it, by id


@dataclass(frozen=True)
class Made:
    """What was made of a row, now or before, from the model to the store.

    The model gives pixels. They become the contents of a master, and from then on everything else is what was read off
    these: the pixels, too, so that what is judged is what is stored.
    """

    row: Row
    pixels: np.ndarray  # uint8 [height, width, 3] without a visible label, or [layers, height, width, 4]
    seconds: float  # that making it took; none of what is stored
    master: Master | None = None  # that it was found in
    contents: Any = None  # what the shelf takes
    file: PictureFile | None = None  # what the bytes say of the picture, or of the layers' composite
    fixes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    fingerprint: str | None = None  # of a picture: see `safety.pictures.likeness`
    verdict: Verdict = field(default_factory=allow)


Rendered = list[Made | StoredRow | Outcome]
"""What is classified at a time: what was made, what is to be fetched from the store, and rows that have ended."""

Classified = list[Made | Outcome]
"""What is kept at a time: what was judged, and rows that have ended."""


class Stages(Protocol):
    """What one kind of job does in the stages of a lane; what all kinds do is in the stages themselves."""

    shelf: Shelf[Any]
    conditions: bool  # the pictures that rows are made from are drawn after, such as edges: less counts of them
    text: str  # what people call the text of a row: "prompt", "caption" or "instruction"

    def read_originals(self, rows: Sequence[Row], masters: Mapping[str, Master]) -> list[RowOriginals | Outcome]:
        """Read what the rows are made from beside their texts; `masters` are those of stored rows, by their ids."""

    def render(self, screened: Screened) -> Iterator[Rendered]:
        """Make what is to be made, batch by batch."""

    def classify(self, batch: Rendered, screened: Screened) -> Classified:
        """Judge what was made or found."""


Between = Callable[[], None]
"""Called between two batches; it raises what should end the run."""

"""What became of one request to an engine: a value that is known without torch, as a kind without a model has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.requests import Pixels

if TYPE_CHECKING:
    from models.failure import Failure


@dataclass(frozen=True)
class Picture:
    """What became of one request: pixels, a failure, or a refusal."""

    index: int  # its position in the requests
    pixels: Pixels | None  # [H, W, 3] of a picture; [layers, H, W, 4] of a source's layers
    failure: Failure | None
    seconds: float  # its share of its batch's time
    is_refused: bool = False  # by `models.engines.engine.Admit`; then there is neither of the two


def single(picture: Picture) -> Picture:
    """Return what became of a request for one picture, whose pixels came as its only frame."""
    return picture if picture.pixels is None else replace(picture, pixels=picture.pixels[0])

"""The pictures that planned rows are made from, as a lane reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from safety.pictures.layers import WHITE, over
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.stages import RowOriginals
from tasks.manifests.row import PlannedPicture, Row
from tasks.outcome import Outcome
from tasks.rows.originals import read_source
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources
from tasks.sources.source_error import SourceError
from tasks.stores.store import Store

Reduced = TypeVar("Reduced")


@dataclass(frozen=True)
class OriginalReader:
    """Reads the pictures of planned rows, for a lane; safe to use from many threads."""

    sources: Sources
    decoder: Decoder
    store: Store
    recorder: OutcomeRecorder
    keeps_alpha: bool  # or lays pictures over white, before they are resized: lines on nothing are lines on white

    def read(self, row: Row) -> RowOriginals | Outcome:
        """Return a row with its picture at its size, uint8 [H, W, 4] with alpha, else [H, W, 3]; or its end."""
        (picture,) = row.pictures
        found = self.reduced(picture, lambda pixels: resized_to(pixels, (row.width, row.height)))
        return self.failed(row, found) if isinstance(found, SourceError) else RowOriginals(row, (found,))

    def reduced(self, picture: PlannedPicture, reduce: Callable[[np.ndarray], Reduced]) -> Reduced | SourceError:
        """Return what is kept of a picture, which may be large while it is whole; or why it can't be read."""
        try:
            pixels = self.decoder.decode(read_source(picture, self.sources, self.store)).pixels
        except SourceError as error:
            return error
        return reduce(pixels if self.keeps_alpha else over(pixels, WHITE))

    def failed(self, row: Row, error: SourceError) -> Outcome:
        """Return the end of a row of which a picture can't be read."""
        return self.recorder.failure(
            row, error.reason, error.message, retryable=error.retryable, keeps=error.is_passing
        )


def resized_to(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture at another width and height, as diffusers' pipelines resize it; at its own it is as it was."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    from models.sampling.latents import resized  # imports torch and diffusers, which takes seconds

    return np.asarray(resized(pixels, *size, pixels.shape[2]))

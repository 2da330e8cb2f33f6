"""The pictures that planned rows are made from, as a lane reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safety.pictures.layers import WHITE, over
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.stages import RowOriginals
from tasks.manifests.row import Row
from tasks.outcome import Outcome
from tasks.rows.originals import read_source
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources
from tasks.sources.source_error import SourceError
from tasks.stores.store import Store


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
        from models.sampling.latents import resized  # imports torch and diffusers, which takes seconds

        try:
            picture = self.decoder.decode(read_source(row, self.sources, self.store))
        except SourceError as error:
            return self.recorder.failure(
                row, error.reason, error.message, retryable=error.retryable, keeps=error.is_passing
            )
        pixels = picture.pixels if self.keeps_alpha else over(picture.pixels, WHITE)
        return row, (np.asarray(resized(pixels, row.width, row.height, pixels.shape[2])),)

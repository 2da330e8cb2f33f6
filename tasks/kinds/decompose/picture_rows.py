"""Rows of a manifest of source pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from models.requests import LayersDefaults, check_aspect, layers_size
from tasks.job import DecomposeJob
from tasks.job_sections import MOST_LAYERS
from tasks.manifests.key import seed_of
from tasks.manifests.known_columns import PICTURES
from tasks.manifests.manifest import known_values
from tasks.manifests.row import (
    MAX_STEPS,
    BadRow,
    Row,
    check_id,
    check_length,
    check_read,
    check_steps,
    given_or,
    guidance_of,
    profile_of,
    whole,
)
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.originals import READING_THREADS, OriginalReference, Originals
from tasks.sources.source_error import SourceError

RESOLUTIONS = range(64, 2049)  # pixels


@dataclass(frozen=True)
class LayerDefaults:
    """What a row gets where it says nothing: the job's values, resolved against the checkpoint's own."""

    layers: int
    resolution: int
    steps: int
    guidance: float
    negative_prompt: str
    profile: str
    seed: int
    fewest_steps: int  # that the checkpoint's schedule can take
    size_multiple: int  # of width and height, pixels


def layer_defaults(
    job: DecomposeJob, sampling: LayersDefaults, *, fewest_steps: int, size_multiple: int
) -> LayerDefaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be decomposed with them.
    """
    check_steps(job.sampling.steps, fewest_steps)
    return LayerDefaults(
        layers=given_or(job.sampling.layers, sampling.layers),
        resolution=given_or(job.sampling.resolution, sampling.resolution),
        steps=given_or(job.sampling.steps, sampling.steps),
        guidance=given_or(job.sampling.guidance, sampling.guidance),
        negative_prompt=job.sampling.negative_prompt,
        profile=job.marketplace.profile,
        seed=job.sampling.seed,
        fewest_steps=fewest_steps,
        size_multiple=size_multiple,
    )


def asked_of(values: Mapping[str, Any], defaults: LayerDefaults) -> tuple[Row, int]:
    """Return what a row asks for, without its picture and its size, and the resolution in pixels.

    Raises:
        RowError: with a sentence, if a value is wrong.
    """
    row_id, caption = values["id"], values.get("caption") or ""
    check_id(row_id)
    check_read(values)
    check_length("caption", caption)
    row = Row(
        id=row_id,
        prompt=caption.strip(),
        negative_prompt=given_or(values.get("negative_prompt"), defaults.negative_prompt),
        seed=whole(values, "seed", seed_of(defaults.seed, row_id), range(2**63)),
        width=0,
        height=0,
        steps=whole(values, "steps", defaults.steps, range(defaults.fewest_steps, MAX_STEPS + 1)),
        guidance=guidance_of(values, defaults.guidance),
        profile=profile_of(values, defaults.profile),
        layers=whole(values, "layers", defaults.layers, range(1, MOST_LAYERS + 1)),
    )
    return row, whole(values, "resolution", defaults.resolution, RESOLUTIONS)


class PictureRows:
    """Reads the rows of a manifest of source pictures, and each picture once: its content decides the row's key."""

    def __init__(self, defaults: LayerDefaults, originals: Originals) -> None:
        self.defaults, self.originals = defaults, originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give one row for each of a batch's, with its number in the batch."""
        self.originals.begin()
        with ThreadPoolExecutor(READING_THREADS, "source") as pool:
            yield from enumerate(pool.map(self._row, known_values(batch, PICTURES)))

    def keep(self, row: Row) -> None:
        """Put a picture that the manifest holds where lanes can read it."""
        self.originals.keep(row)

    def _row(self, values: Mapping[str, Any]) -> Row | BadRow:
        row_id, caption = values["id"], values.get("caption") or ""
        try:
            asked, resolution = asked_of(values, self.defaults)
            original = self.originals.look("image", values.get("image"))
            width, height = _size(original, resolution, self.defaults.size_multiple)
            return replace(asked, width=width, height=height, image=original.address, source=original.source)
        except RowError as error:
            return BadRow.of(row_id, caption, error)
        except SourceError as error:
            return BadRow(row_id, caption, error.message, error.reason, error.retryable)


def _size(original: OriginalReference, resolution: int, multiple: int) -> tuple[int, int]:
    """Return the width and height of a picture's layers; raise RowError where they can't have its aspect."""
    try:
        size = layers_size(original.width, original.height, resolution, multiple)
        check_aspect(original.width, original.height, size)
    except ValueError as error:
        raise RowError(Problem("image", RowFault.ASPECT, str(error))) from error
    return size

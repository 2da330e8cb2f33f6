"""Rows of a manifest of source pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from models.sampling import LayersDefaults, layers_size
from tasks.decoder import Decoder
from tasks.job import MOST_LAYERS, DecomposeJob
from tasks.key import seed_of
from tasks.manifest import PICTURES, known_values
from tasks.row import MAX_STEPS, BadRow, Row, check_id, check_length, check_steps, given_or, guidance_of, whole
from tasks.source import Sources
from tasks.source_error import SourceError
from tasks.store import Store

READING_THREADS = 16
RESOLUTIONS = range(64, 2049)  # pixels
KEPT = "sources:"  # before the hash of a source picture that the manifest itself held


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
    """The job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be decomposed with them.
    """
    check_steps(job.steps, fewest_steps)
    return LayerDefaults(
        layers=given_or(job.layers, sampling.layers),
        resolution=given_or(job.resolution, sampling.resolution),
        steps=given_or(job.steps, sampling.steps),
        guidance=given_or(job.guidance, sampling.guidance),
        negative_prompt=job.negative_prompt,
        profile=job.profile,
        seed=job.seed,
        fewest_steps=fewest_steps,
        size_multiple=size_multiple,
    )


class PictureRows:
    """Reads the rows of a manifest of source pictures, and each picture once: its content decides the row's key."""

    def __init__(self, defaults: LayerDefaults, sources: Sources, decoder: Decoder, store: Store | None) -> None:
        """`store` keeps pictures that the manifest itself holds, for the lanes; without one nothing is written."""
        self.defaults, self.sources, self.decoder, self.store = defaults, sources, decoder, store
        self._held: dict[str, bytes] = {}  # pictures of the last batch that are in the manifest, by hash

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """One row for each of a batch's, with its number in the batch."""
        self._held.clear()
        with ThreadPoolExecutor(READING_THREADS, "source") as pool:
            yield from enumerate(pool.map(self._row, known_values(batch, PICTURES)))

    def keep(self, row: Row) -> None:
        """Put a picture that the manifest holds where lanes can read it."""
        if self.store is not None and row.source in self._held:
            self.store.adopt_or_put(kept_path(row.source), self._held[row.source])

    def _row(self, values: Mapping[str, Any]) -> Row | BadRow:
        defaults, row_id, caption = self.defaults, values["id"], values.get("caption") or ""
        try:
            check_id(row_id)
            check_length("caption", caption)
            seed = whole(values, "seed", seed_of(defaults.seed, row_id), range(2**63))
            steps = whole(values, "steps", defaults.steps, range(defaults.fewest_steps, MAX_STEPS + 1))
            guidance = guidance_of(values, defaults.guidance)
            layers = whole(values, "layers", defaults.layers, range(1, MOST_LAYERS + 1))
            resolution = whole(values, "resolution", defaults.resolution, RESOLUTIONS)
            image = _image(values.get("image"))
            if not image:
                raise ValueError("The image is empty.")
            data = self.sources.read(image)
            size = self.decoder.measure(data)
            source = hashlib.sha256(data).hexdigest()
            width, height = layers_size(size.width, size.height, resolution, defaults.size_multiple)
            if isinstance(image, bytes):
                self._held[source] = data
            return Row(
                id=row_id,
                prompt=caption.strip(),
                negative_prompt=given_or(values.get("negative_prompt"), defaults.negative_prompt),
                seed=seed,
                width=width,
                height=height,
                steps=steps,
                guidance=guidance,
                profile=given_or(values.get("profile"), defaults.profile),
                image=KEPT + source if isinstance(image, bytes) else image,
                source=source,
                layers=layers,
            )
        except ValueError as error:
            return BadRow(row_id, caption, str(error))
        except SourceError as error:
            return BadRow(row_id, caption, error.message, error.reason, error.retryable)


def _image(value: Any) -> str | bytes | None:
    """A row's picture or its address; a struct of both (Hugging Face datasets') holds one of them."""
    if isinstance(value, dict):
        held: str | bytes | None = value["bytes"] or value["path"]
        return held
    found: str | bytes | None = value
    return found


def kept_path(source: str) -> str:
    """Where a picture that a manifest held lies in the store, by the hash of its bytes."""
    return f"sources/{source[:2]}/{source}"


def read_source(row: Row, sources: Sources, store: Store) -> bytes:
    """The bytes of a planned row's picture.

    Raises:
        SourceError: if it can't be read, or isn't any more what it was when the plan was made.
    """
    assert row.image is not None
    assert row.source is not None
    if row.image.startswith(KEPT):
        found = store.read(kept_path(row.source))
        if found is None:
            raise SourceError("source_not_found", "The picture that the manifest held is gone from the store.")
        data = found[0]
    else:
        data = sources.read(row.image)
    if hashlib.sha256(data).hexdigest() != row.source:
        raise SourceError(
            "source_changed",
            "The picture has changed since the plan was made; the next run will take it as it is.",
            retryable=True,
        )
    return data

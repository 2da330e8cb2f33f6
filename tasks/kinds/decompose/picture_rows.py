"""Rows of a manifest of source pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from models.requests import LayersDefaults, check_aspect, layers_size
from tasks.job import DecomposeJob
from tasks.job_sections import MOST_LAYERS
from tasks.manifests.known_columns import PICTURES
from tasks.manifests.row import Row, check_id, check_length, check_read, given_or, is_blank, whole
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.originals import OriginalReference, Originals
from tasks.rows.row_defaults import KnownCheckpoint, RowDefaults, row_defaults, sampled
from tasks.rows.source_rows import SourceRows

RESOLUTIONS = range(64, 2049)  # pixels


@dataclass(frozen=True, kw_only=True)
class LayerDefaults(RowDefaults):
    """What a row gets where it says nothing, with what rows of source pictures alone have."""

    layers: int
    resolution: int


def layer_defaults(job: DecomposeJob, known: KnownCheckpoint[LayersDefaults]) -> LayerDefaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be decomposed with them.
    """
    return LayerDefaults(
        layers=given_or(job.sampling.layers, known.defaults.layers),
        resolution=given_or(job.sampling.resolution, known.defaults.resolution),
        **vars(row_defaults(job, known)),
    )


def asked_of(values: Mapping[str, Any], defaults: LayerDefaults) -> Row:
    """Return what a row asks for, without its picture: as if that were a square, at the row's resolution.

    Raises:
        RowError: with a sentence, if a value is wrong.
    """
    row_id, caption = values["id"], values.get("caption") or ""
    check_id(row_id)
    check_read(values)
    check_length("caption", caption)
    side = whole(values, "resolution", defaults.resolution, RESOLUTIONS)
    return Row(
        id=row_id,
        prompt="" if is_blank(caption) else caption.strip(),
        width=side,
        height=side,
        layers=whole(values, "layers", defaults.layers, range(1, MOST_LAYERS + 1)),
        **sampled(values, defaults),
    )


def picture_rows(defaults: LayerDefaults, originals: Originals) -> SourceRows:
    """Return what reads the rows of a manifest of source pictures."""
    return SourceRows(
        PICTURES, "caption", partial(asked_of, defaults=defaults), partial(fitted, defaults=defaults), originals
    )


def fitted(row: Row, original: OriginalReference, defaults: LayerDefaults) -> Row:
    """Return a row at the size of its layers.

    Raises:
        RowError: with a sentence, if they can't have the picture's aspect.
    """
    try:
        size = layers_size(original.width, original.height, row.width, defaults.size_multiple)
        check_aspect(original.width, original.height, size)
    except ValueError as error:
        raise RowError(Problem("image", RowFault.ASPECT, str(error))) from error
    return replace(row, width=size[0], height=size[1])

"""Render: the rows of a shard through the GPU, and what comes out handed on batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.sampling import PictureRequest, Shape
from tasks.outcome import Outcome
from tasks.plan import PlannedRow
from tasks.record import Record
from tasks.screen import Found, Screened
from tasks.stream import Stream


@dataclass(frozen=True)
class Made:
    """A picture fresh from the model."""

    planned: PlannedRow
    pixels: np.ndarray  # uint8 [height, width, 3]
    seconds: float


Rendered = list[Made | Found | Outcome]
"""What the next stage gets at a time: pictures, pictures to fetch from the store, and rows that failed."""

if TYPE_CHECKING:
    from models.generator import Generator, Picture

FOUND_AT_ONCE = 16


@task(name="render", task_run_name="render {shard}", cache_policy=NO_CACHE)
def render(
    shard: int,  # noqa: ARG001  names the task run
    screened: Screened,
    *,
    generator: Callable[[], Generator],
    out: Stream[Rendered],
    record: Record,
    between_batches: Callable[[], None],
) -> int:
    """Draw what is to be drawn; returns how many pictures were made. The model is loaded only if there is any.

    `between_batches` raises what should end the run before the next batch.
    """
    try:
        for start in range(0, len(screened.found), FOUND_AT_ONCE):
            out.put([*screened.found[start : start + FOUND_AT_ONCE]])
        made = 0
        if screened.to_render:
            for pictures in generator().render([request_of(planned) for planned in screened.to_render]):
                batch: Rendered = [taken(picture, screened.to_render, record) for picture in pictures]
                out.put(batch)
                made += sum(isinstance(thing, Made) for thing in batch)
                between_batches()
        out.close()
    except BaseException:
        out.abandon()
        raise
    return made


def request_of(planned: PlannedRow) -> PictureRequest:
    """What the engine is asked for."""
    row = planned.row
    return PictureRequest(
        row.prompt, row.negative_prompt, row.seed, Shape(row.width, row.height, row.steps, row.guidance)
    )


def taken(picture: Picture, rows: Sequence[PlannedRow], record: Record) -> Made | Outcome:
    """What the engine gave, as the next stage wants it."""
    planned = rows[picture.index]
    if picture.pixels is not None:
        return Made(planned, picture.pixels, picture.seconds)
    assert picture.failure is not None
    failure = picture.failure
    return record.failure(planned, failure.reason, failure.message, retryable=failure.retryable)

"""Classify: what safety and the marketplace say of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from safety.concepts import judge_picture
from safety.picture import inspect
from safety.verdict import Reason, Verdict, refuse, strictest
from tasks.encoding import Encoding, decode
from tasks.judges import Judges
from tasks.outcome import FailureReason, Outcome
from tasks.plan import PlannedRow
from tasks.record import Record
from tasks.render import Made, Rendered
from tasks.screen import Found, Screened
from tasks.store import Store
from tasks.stream import Stream


@dataclass(frozen=True)
class Judged:
    """A picture, encoded, with the verdict on it."""

    planned: PlannedRow
    data: bytes
    width: int
    height: int
    seconds: float
    verdict: Verdict
    stored_at: str | None  # where in the store it came from, None for a new picture


Classified = list[Judged | Outcome]


@task(name="classify", task_run_name="classify {shard}", cache_policy=NO_CACHE)
def classify(
    shard: int,  # noqa: ARG001  names the task run
    screened: Screened,
    *,
    judges: Judges,
    store: Store,
    pool: Executor,
    encoding: Encoding,
    rendered: Stream[Rendered],
    out: Stream[Classified],
    record: Record,
) -> int:
    """Judge the pictures of a shard as they come; returns how many passed."""
    passed = 0
    try:
        for batch in rendered:
            pictures, ended = _opened(batch, store, pool, encoding, record)
            verdicts = _judge(pictures, screened, judges, pool)
            out.put(
                [
                    *ended,
                    *(
                        Judged(p.planned, p.data, p.pixels.shape[1], p.pixels.shape[0], p.seconds, verdict, p.stored_at)
                        for p, verdict in zip(pictures, verdicts, strict=True)
                    ),
                ]
            )
            passed += sum(verdict.allowed for verdict in verdicts)
        out.close()
    except BaseException:
        rendered.abandon()
        out.abandon()
        raise
    return passed


@dataclass(frozen=True)
class _Picture:
    planned: PlannedRow
    pixels: np.ndarray
    data: bytes
    format: str
    seconds: float
    stored_at: str | None


def _opened(
    batch: Rendered, store: Store, pool: Executor, encoding: Encoding, record: Record
) -> tuple[list[_Picture], list[Outcome]]:
    """New pictures encoded and stored ones fetched; rows that ended already, and those whose picture can't be read."""

    def opened(thing: Made | Found | Outcome) -> _Picture | Outcome:
        if isinstance(thing, Outcome):
            return thing
        if isinstance(thing, Made):
            data = encoding.encode(thing.pixels)
            # What is judged is what is stored: a lossy format changes pixels.
            pixels = thing.pixels if encoding.lossless else decode(data)
            return _Picture(thing.planned, pixels, data, encoding.format, thing.seconds, None)
        found = store.read(thing.path)
        try:
            if found is None:
                raise ValueError("The stored picture was removed while the run was under way.")
            return _Picture(thing.planned, decode(found[0]), found[0], encoding.format, 0.0, thing.path)
        except ValueError as error:
            return record.failure(thing.planned, FailureReason.UNREADABLE, str(error), retryable=True)

    things = list(pool.map(opened, batch))
    pictures = [thing for thing in things if isinstance(thing, _Picture)]
    return pictures, [thing for thing in things if isinstance(thing, Outcome)]


def _judge(pictures: Sequence[_Picture], screened: Screened, judges: Judges, pool: Executor) -> list[Verdict]:
    """The verdict on each picture: what is on it, what that means, what its marketplace says."""
    inspected = list(pool.map(lambda picture: inspect(picture.pixels), pictures))
    meant = _meanings(pictures, screened, judges)
    return [
        strictest([seen, meaning, _demanded(picture, judges)])
        for seen, meaning, picture in zip(inspected, meant, pictures, strict=True)
    ]


def _demanded(picture: _Picture, judges: Judges) -> Verdict:
    profile = judges.profiles[picture.planned.row.profile]
    return profile.check(picture.pixels, format=picture.format, size_bytes=len(picture.data))


def _meanings(pictures: Sequence[_Picture], screened: Screened, judges: Judges) -> list[Verdict]:
    if not pictures:
        return []
    try:
        embeddings = judges.clip.embed_pictures([picture.pixels for picture in pictures])
        return [
            judge_picture(embedding, screened.windows[picture.planned.row.id], judges.concepts, judges.policy)
            for embedding, picture in zip(embeddings, pictures, strict=True)
        ]
    except Exception as error:  # noqa: BLE001  whatever the CLIP failed of, nothing was classified
        message = f"The picture could not be classified: {type(error).__name__}."
        return [refuse(Reason.CLASSIFIER_FAILED, message) for _ in pictures]

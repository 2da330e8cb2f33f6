"""What the stages of a lane do with prompts: pictures, judged and stored one object each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.sampling import PictureRequest, Shape
from safety.picture import inspect
from safety.verdict import Verdict, strictest
from tasks.encoding import Encoding, decode
from tasks.judges import Judges
from tasks.originals import OriginalReader
from tasks.outcome import FailureReason, Outcome
from tasks.plan import PlannedRow
from tasks.record import Record
from tasks.screen import judge_prompts, places_of, screen_originals, sorted_out
from tasks.shelf import PictureShelf
from tasks.stages import Classified, Found, Judged, Made, Rendered, Screened, Stages

if TYPE_CHECKING:
    from models.generator import Generator


@dataclass(frozen=True)
class _Picture:
    planned: PlannedRow
    pixels: np.ndarray
    data: bytes
    format: str
    seconds: float
    stored_at: str | None


class PictureStages(Stages):
    """Prompts in, pictures out."""

    def __init__(
        self,
        *,
        generator: Callable[[], Generator],
        judges: Judges,
        shelf: PictureShelf,
        encoding: Encoding,
        controls: OriginalReader | None,
        pool: Executor,
        record: Record,
    ) -> None:
        """`generator` gives the model, loaded when it is first asked for; `pool` is for the store and for encoding.

        `controls` reads control pictures, where there are any to draw after.
        """
        self.generator, self.judges, self.shelf, self.encoding = generator, judges, shelf, encoding
        self.controls = controls
        self.pool, self.record = pool, record

    def screen(self, shard: int, rows: Sequence[PlannedRow]) -> Screened:
        """Judge the prompts of a shard and its control pictures, and look up which pictures are stored."""
        places = places_of(rows, self.shelf, self.pool)
        if self.controls is not None:
            read = list(self.pool.map(self.controls.read, rows))
            policy = self.judges.policy.of_conditions
            return screen_originals(
                shard, read, places, judges=self.judges, policy=policy, shelf=self.shelf, record=self.record
            )
        verdicts, windows = judge_prompts(rows, self.judges)
        return sorted_out(shard, rows, verdicts, places, windows, shelf=self.shelf, record=self.record)

    def render(self, screened: Screened) -> Iterator[Rendered]:
        """Draw what is to be drawn."""
        rows = screened.to_render
        requests = [request_of(planned, screened.sources.get(planned.row.id)) for planned in rows]
        for pictures in self.generator().render(requests):
            yield [self.record.taken(rows[picture.index], picture) for picture in pictures]

    def classify(self, batch: Rendered, screened: Screened) -> Classified:
        """Judge pictures: what is on each, what that means, what its marketplace says."""
        opened = list(self.pool.map(self._opened, batch))
        pictures = [thing for thing in opened if isinstance(thing, _Picture)]
        inspected = list(self.pool.map(lambda picture: inspect(picture.pixels), pictures))
        windows = [screened.windows[picture.planned.row.id] for picture in pictures]
        meant = self.judges.see([picture.pixels for picture in pictures], windows)
        judged: Classified = [thing for thing in opened if isinstance(thing, Outcome)]
        for picture, seen, meaning in zip(pictures, inspected, meant, strict=True):
            verdict = strictest([seen, meaning, self._demanded(picture)])
            height, width = picture.pixels.shape[:2]
            judged.append(
                Judged(picture.planned, picture.data, width, height, picture.seconds, verdict, picture.stored_at)
            )
        return judged

    def _opened(self, thing: Made | Found | Outcome) -> _Picture | Outcome:
        """A new picture encoded, or a stored one fetched; a row that has ended stays as it is."""
        if isinstance(thing, Outcome):
            return thing
        if isinstance(thing, Made):
            data = self.encoding.encode(thing.pixels)
            # What is judged is what is stored: a lossy format changes pixels.
            pixels = thing.pixels if self.encoding.lossless else decode(data)
            return _Picture(thing.planned, pixels, data, self.encoding.format, thing.seconds, None)
        try:
            data = self.shelf.read(thing.place, thing.planned.key)
            return _Picture(thing.planned, decode(data), data, self.encoding.format, 0.0, thing.place)
        except ValueError as error:
            return self.record.failure(thing.planned, FailureReason.UNREADABLE, str(error), retryable=True)

    def _demanded(self, picture: _Picture) -> Verdict:
        profile = self.judges.profiles[picture.planned.row.profile]
        return profile.check(picture.pixels, format=picture.format, size_bytes=len(picture.data))


def request_of(planned: PlannedRow, control: np.ndarray | None) -> PictureRequest:
    """What the engine is asked for; `control` is the row's control picture, uint8 [H, W, 3], if it has one."""
    row = planned.row
    shape = Shape(row.width, row.height, row.steps, row.guidance)
    return PictureRequest(row.prompt, row.negative_prompt, row.seed, shape, control)

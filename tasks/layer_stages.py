"""What the stages of a lane do with source pictures: layers, checked against their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from models.sampling import LayersRequest, Shape
from safety.concepts import judge_picture
from safety.layers import composite, judge_layers
from safety.verdict import Reason, Verdict, refuse, strictest
from tasks.decoder import Decoder
from tasks.judges import Judges
from tasks.layer_shelf import Layers, LayerShelf
from tasks.outcome import FailureReason, Outcome
from tasks.picture_rows import read_source
from tasks.plan import PlannedRow
from tasks.record import Record
from tasks.screen import blocked, judge_prompts, places_of, sorted_out
from tasks.source import Sources
from tasks.source_error import SourceError
from tasks.stages import Classified, Found, Judged, Made, Rendered, Screened, Stages

if TYPE_CHECKING:
    from models.decomposer import Decomposer, Failure


@dataclass(frozen=True)
class _Result:
    planned: PlannedRow
    contents: Layers
    seconds: float
    stored_at: str | None


class LayerStages(Stages):
    """Source pictures in, layers out."""

    def __init__(
        self,
        *,
        decomposer: Callable[[], Decomposer],
        judges: Judges,
        shelf: LayerShelf,
        sources: Sources,
        decoder: Decoder,
        cfg_normalize: bool,
        use_en_prompt: bool,
        writes_captions: bool,
        pool: Executor,
        record: Record,
    ) -> None:
        """`decomposer` gives the model, loaded when it is first asked for; `pool` is for the store and for reading."""
        self.decomposer, self.judges, self.shelf = decomposer, judges, shelf
        self.sources, self.decoder = sources, decoder
        self.cfg_normalize, self.use_en_prompt, self.writes_captions = cfg_normalize, use_en_prompt, writes_captions
        self.pool, self.record = pool, record
        self._captions: dict[str, str] = {}  # written by this lane, by the hash of the source picture

    def screen(self, shard: int, rows: Sequence[PlannedRow]) -> Screened:
        """Read the source pictures of a shard, judge them and their captions, and look up which layers are stored."""
        places = places_of(rows, self.shelf, self.pool)
        pictures = list(self.pool.map(self._source, rows, places))
        failed = [thing for thing in pictures if isinstance(thing, Outcome)]
        read = [
            (row, place, picture)
            for row, place, picture in zip(rows, places, pictures, strict=True)
            if not isinstance(picture, Outcome)
        ]
        rows, places = [row for row, _, _ in read], [place for _, place, _ in read]
        sources = [picture for _, _, picture in read]
        said, windows = judge_prompts(rows, self.judges)
        verdicts = [strictest(pair) for pair in zip(said, self._shown(sources), strict=True)]
        screened = sorted_out(shard, rows, verdicts, places, windows, shelf=self.shelf, record=self.record)
        screened.ended.extend(failed)
        wanted = {planned.row.id for planned in screened.to_render}
        screened.sources.update(
            (planned.row.id, source) for planned, source in zip(rows, sources, strict=True) if planned.row.id in wanted
        )
        return screened

    def render(self, screened: Screened) -> Iterator[Rendered]:
        """Caption what has no caption, and take apart what is to be taken apart."""
        rows = screened.to_render
        if self.writes_captions:
            rows, ended = self._captioned(rows, screened)
            if ended:
                yield [*ended]
        requests = [self._request(planned, screened) for planned in rows]
        for pictures in self.decomposer().decompose(requests):
            yield [self.record.taken(rows[picture.index], picture) for picture in pictures]

    def classify(self, batch: Rendered, screened: Screened) -> Classified:
        """Judge layers: whether they make their picture, what that shows, and whether each shows something."""
        opened = list(self.pool.map(lambda thing: self._opened(thing, screened), batch))
        results = [thing for thing in opened if isinstance(thing, _Result)]
        profiles = self.judges.profiles
        measured = self.pool.map(
            lambda result: judge_layers(
                result.contents.source,
                result.contents.layers,
                min_psnr=profiles[result.planned.row.profile].min_layers_psnr,
            ),
            results,
        )
        shown = self._shown([composite(result.contents.layers) for result in results])
        judged: Classified = [thing for thing in opened if isinstance(thing, Outcome)]
        for result, layers, picture in zip(results, measured, shown, strict=True):
            height, width = result.contents.source.shape[:2]
            verdict = strictest([layers, picture])
            judged.append(
                Judged(result.planned, result.contents, width, height, result.seconds, verdict, result.stored_at)
            )
        return judged

    def _source(self, planned: PlannedRow, place: str | None) -> np.ndarray | Outcome:
        """A row's source picture at the size of its layers: from beside them where they are stored already."""
        if place is not None:
            try:
                return self.shelf.read(place, planned.key).source
            except ValueError as error:
                return self.record.failure(planned, FailureReason.UNREADABLE, str(error), retryable=True)
        from models.latents import resized  # imports torch and diffusers, which takes seconds

        row = planned.row
        try:
            picture = self.decoder.decode(read_source(row, self.sources, self.shelf.store))
            return np.asarray(resized(picture.pixels, row.width, row.height))
        except SourceError as error:
            return self.record.failure(planned, error.reason, error.message, retryable=error.retryable)

    def _shown(self, pictures: Sequence[np.ndarray]) -> list[Verdict]:
        """What the policy says of pictures, uint8 [H, W, 4], over white."""
        if not pictures:
            return []
        judges = self.judges
        try:
            embeddings = judges.clip.embed_pictures([over_white(picture) for picture in pictures])
            return [judge_picture(embedding, None, judges.concepts, judges.policy) for embedding in embeddings]
        except Exception as error:  # noqa: BLE001  whatever the CLIP failed of, nothing was classified
            message = f"The picture could not be classified: {type(error).__name__}."
            return [refuse(Reason.CLASSIFIER_FAILED, message) for _ in pictures]

    def _captioned(self, rows: Sequence[PlannedRow], screened: Screened) -> tuple[list[PlannedRow], list[Outcome]]:
        """The rows with captions, written where there were none and screened, and those that ended of it."""
        failures = self._write_captions([planned for planned in rows if not planned.row.prompt], screened)
        captioned = [self._with_caption(planned) for planned in rows]
        written = [new for old, new in zip(rows, captioned, strict=True) if new is not old]
        verdicts = dict(zip((new.row.id for new in written), judge_prompts(written, self.judges)[0], strict=True))
        kept: list[PlannedRow] = []
        ended: list[Outcome] = []
        for planned in captioned:
            verdict, failure = verdicts.get(planned.row.id), failures.get(planned.row.source or "")
            if verdict is not None and not verdict.allowed:
                ended.append(blocked(planned, verdict, self.record))
            elif not planned.row.prompt and failure is not None:
                ended.append(self.record.failure(planned, failure.reason, failure.message, retryable=failure.retryable))
            else:
                kept.append(planned)
        return kept, ended

    def _write_captions(self, rows: Sequence[PlannedRow], screened: Screened) -> dict[str, Failure]:
        """Write a caption for each source picture that has none yet; returns why some have none still, by hash."""
        missing = list(
            {planned.row.source or "": planned for planned in rows if planned.row.source not in self._captions}.values()
        )
        failures: dict[str, Failure] = {}
        if not missing:
            return failures
        shape = missing[0].row
        batches = self.decomposer().caption(
            [screened.sources[planned.row.id] for planned in missing],
            resolution=round(math.sqrt(shape.width * shape.height)),
            use_en_prompt=self.use_en_prompt,
        )
        for caption in chain.from_iterable(batches):
            source = missing[caption.index].row.source or ""
            if caption.failure is not None:
                failures[source] = caption.failure
            else:
                self._captions[source] = caption.text or ""
        return failures

    def _with_caption(self, planned: PlannedRow) -> PlannedRow:
        row = planned.row
        caption = "" if row.prompt else self._captions.get(row.source or "", "")
        return replace(planned, row=replace(row, prompt=caption)) if caption else planned

    def _request(self, planned: PlannedRow, screened: Screened) -> LayersRequest:
        row = planned.row
        shape = Shape(
            row.width, row.height, row.steps, row.guidance, row.layers, self.cfg_normalize or row.guidance <= 1
        )
        return LayersRequest(screened.sources[row.id], row.prompt, row.negative_prompt, row.seed, shape)

    def _opened(self, thing: Made | Found | Outcome, screened: Screened) -> _Result | Outcome:
        if isinstance(thing, Outcome):
            return thing
        if isinstance(thing, Made):
            source = screened.sources[thing.planned.row.id]
            return _Result(thing.planned, Layers(source, thing.pixels), thing.seconds, None)
        try:
            contents = self.shelf.read(thing.place, thing.planned.key)
        except ValueError as error:
            return self.record.failure(thing.planned, FailureReason.UNREADABLE, str(error), retryable=True)
        return _Result(thing.planned, contents, 0.0, thing.place)


def over_white(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 [H, W, 4], laid over white: uint8 [H, W, 3]."""
    cover = picture[..., 3:].astype(np.float32) / 255
    return (picture[..., :3] * cover + 255 * (1 - cover) + 0.5).astype(np.uint8)

"""What the stages of a lane do with source pictures: layers, checked against their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from models.requests import LayersRequest, Shape
from safety.marks.credentials import CredentialsError
from safety.marks.marks import judge_marks
from safety.marks.provenance import DigitalSourceType
from safety.pictures.layers import WHITE, judge_layers, over
from safety.pictures.picture_file import examine
from safety.verdict import Verdict, allow, strictest
from tasks.kinds.decompose.layer_spec import LayerSpec
from tasks.lane.lane_resources import LaneResources
from tasks.lane.probing import ProbeAdmission
from tasks.lane.screen import decisions_on, judge_prompts, note_decision
from tasks.lane.stages import Classified, Made, Rendered, RowOriginals, Screened, Stages, StoredRow
from tasks.manifests.row import Row
from tasks.outcome import FailureReason, Outcome, Status
from tasks.results.layer_shelf import LayeredPicture
from tasks.results.master import Master
from tasks.results.retouching import FIXES

if TYPE_CHECKING:
    from models.engines.decomposer import Decomposer, Failure


Seen = tuple[str, int, int]
"""What a caption is written of: the hash of a source picture, and the width and height at which it is read."""


class LayerStages(Stages):
    """Source pictures in, layers out."""

    conditions = False
    text = "caption"

    def __init__(self, resources: LaneResources, result_spec: LayerSpec, source_type: DigitalSourceType) -> None:
        """`source_type` says how the layers come about."""
        self.decomposer: Callable[[], Decomposer] = resources.engine
        self.judges, self.decisions = resources.judges, resources.decisions
        self.pool, self.recorder, self.result_spec = resources.pool, resources.recorder, result_spec
        self.shelf = result_spec.shelf(resources.store, source_type, from_before=resources.spec.from_before)
        self.reader = resources.original_reader(result_spec.intake, keeps_alpha=True)
        self._captions: dict[Seen, str] = {}  # written by this lane

    def read_originals(self, rows: Sequence[Row], masters: Mapping[str, Master]) -> list[RowOriginals | Outcome]:
        """Read the source pictures of rows at the size of their layers; of stored ones both lie in their masters."""
        return list(self.pool.map(lambda row: self._original(row, masters.get(row.id)), rows))

    def render(self, screened: Screened) -> Iterator[Rendered]:
        """Caption what has no caption, and take apart what is to be taken apart."""
        rows = screened.to_render
        if self.result_spec.writes_captions:
            rows, ended = self._captioned(rows, screened)
            if ended:
                yield [*ended]
        requests = [self._request(row, screened) for row in rows]
        admission = ProbeAdmission(self.judges.policy.probe, rows, screened, self.recorder)
        for pictures in self.decomposer().decompose(requests, admit=admission.admit):
            yield [admission.rendered(picture) for picture in pictures]

    def classify(self, batch: Rendered, screened: Screened) -> Classified:
        """Judge layers: whether they make their picture, what that shows, and whether each shows something.

        Of the composite, which is what a shop may publish, marks and transparency count, too.
        """
        opened = list(self.pool.map(lambda thing: self._opened(thing, screened), batch))
        ended: Classified = [thing for thing in opened if isinstance(thing, Outcome)]
        layered = [thing for thing in opened if isinstance(thing, Made)]
        shown = self.judges.see([over(made.contents.composite, WHITE) for made in layered])
        return [*ended, *self.pool.map(lambda made, picture: self._judged(made, picture, screened), layered, shown)]

    def _original(self, row: Row, master: Master | None) -> RowOriginals | Outcome:
        """Return a row with its caption, and its source picture at the size of its layers, uint8 [H, W, 4].

        Both lie beside the layers where these are stored already, so a caption that was written isn't written again.
        """
        if master is not None:
            try:
                original = self.shelf.original(master)
            except ValueError as error:
                return self.recorder.failure(row, FailureReason.UNREADABLE, str(error), retryable=True)
            return RowOriginals(with_caption(row, original.caption), (original.source,))
        return self.reader.read(row)

    def _captioned(self, rows: Sequence[Row], screened: Screened) -> tuple[list[Row], list[Outcome]]:
        """Return the rows with captions, written where there were none and screened, and those that ended of it."""
        failures = self._write_captions([row for row in rows if not row.prompt], screened)
        captioned = [with_caption(row, self._captions.get(_seen(row), "")) for row in rows]
        written = [new for old, new in zip(rows, captioned, strict=True) if new is not old]
        histories = decisions_on(written, self.decisions, self.pool)  # anew: a decision counts for a caption, too
        verdicts = {
            new.id: (history, *history.applied("input", verdict))
            for new, verdict, history in zip(
                written, judge_prompts(written, self.judges, what=self.text)[0], histories, strict=True
            )
        }
        kept: list[Row] = []
        ended: list[Outcome] = []
        for row in captioned:
            judged, failure = verdicts.get(row.id), failures.get(_seen(row))
            if judged is not None:
                history, verdict, decision = judged
                if verdict.allowed:
                    note_decision(screened, row, history, decision)
                    kept.append(row)
                else:
                    ended.append(self.recorder.judged(row, Status.BLOCKED, verdict, decision))
            elif not row.prompt and failure is not None:
                ended.append(self.recorder.failure(row, failure.reason, failure.message, retryable=failure.retryable))
            else:
                kept.append(row)
        return kept, ended

    def _write_captions(self, rows: Sequence[Row], screened: Screened) -> dict[Seen, Failure]:
        """Write a caption for each source picture that has none yet; returns why some have none still."""
        missing = list({seen: row for row in rows if (seen := _seen(row)) not in self._captions}.values())
        failures: dict[Seen, Failure] = {}
        if not missing:
            return failures
        shape = missing[0]
        batches = self.decomposer().caption(
            [_source(row, screened) for row in missing],
            resolution=round(math.sqrt(shape.width * shape.height)),
            use_en_prompt=self.result_spec.use_en_prompt,
        )
        for caption in chain.from_iterable(batches):
            seen = _seen(missing[caption.index])
            if caption.failure is not None:
                failures[seen] = caption.failure
            else:
                self._captions[seen] = caption.text or ""
        return failures

    def _request(self, row: Row, screened: Screened) -> LayersRequest:
        shape = Shape(row.width, row.height, row.steps, row.guidance, row.layers, self.result_spec.cfg_normalize)
        return LayersRequest(_source(row, screened), row.prompt, row.negative_prompt, row.seed, shape)

    def _judged(self, made: Made, picture: Verdict, screened: Screened) -> Made:
        """Return layers with the verdict on them; `picture` is that on what their composite shows."""
        assert made.file is not None
        contents, profile = made.contents, self.judges.profiles[made.row.profile]
        verdicts = [
            judge_layers(contents.source, contents.layers, contents.composite, min_psnr=profile.min_layers_psnr),
            picture,
            judge_marks(made.marks, self.shelf.marker.demanded),
            profile.check_transparency(made.file.transparent),
            screened.probed.get(made.row.id, allow()),
        ]
        return replace(made, verdict=strictest(verdicts))

    def _opened(self, thing: Made | StoredRow | Outcome, screened: Screened) -> Made | Outcome:
        """Return new layers put together, or stored ones fetched; a row that has ended stays as it is."""
        if isinstance(thing, Outcome):
            return thing
        row = thing.row
        try:
            if isinstance(thing, Made):
                made = LayeredPicture(_source(row, screened), thing.pixels, row.prompt)
                return self._read(row, made, thing.seconds, None)
            return self._read(row, self.shelf.read(thing.master), 0.0, thing.master)
        except CredentialsError as error:
            return self.recorder.failure(row, FailureReason.UNSIGNED, str(error), retryable=True)
        except ValueError as error:
            return self.recorder.failure(row, FailureReason.UNREADABLE, str(error), retryable=True)

    def _read(self, row: Row, contents: LayeredPicture, seconds: float, master: Master | None) -> Made:
        """Return layers with what is read off their composite's bytes, which are stored or will be.

        Raises:
            ValueError: if they can't be read; a row's stored objects are its own trouble.
        """
        composite = self.shelf.composite(row.key, contents)
        file = examine(composite)
        marked = self.shelf.marker.find(composite, file.format, row.key)
        fixes = tuple(name for name in FIXES if name in marked.edits)
        contents = replace(contents, stored=composite)
        return Made(row, contents.layers, seconds, master, contents, file, fixes, marked.found)


def _source(row: Row, screened: Screened) -> np.ndarray:
    """Return the source picture of a row that is to be taken apart, uint8 [H, W, 4]."""
    (source,) = screened.sources[row.id]
    return source


def _seen(row: Row) -> Seen:
    return row.source or "", row.width, row.height


def with_caption(row: Row, caption: str) -> Row:
    """Return a row with this caption, if it has none and there is one."""
    return row if row.prompt or not caption else replace(row, prompt=caption)

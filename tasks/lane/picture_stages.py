"""What the stages of a lane do where a row becomes a picture, judged and stored as one object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from safety.marks.credentials import CredentialsError
from safety.marks.marks import Mark, judge_marks
from safety.marks.provenance import DigitalSourceType, read_marks
from safety.pictures.label import draw_label, find_label, without_label
from safety.pictures.likeness import fingerprint
from safety.pictures.picture import inspect
from safety.pictures.picture_file import examine
from safety.pictures.profile import Profile
from safety.verdict import Reason, Verdict, allow, refuse, strictest
from tasks.judging.judges import unjudged
from tasks.lane.lane_resources import LaneResources
from tasks.lane.probing import ProbeAdmission
from tasks.lane.stages import Classified, Made, Rendered, RowOriginals, Screened, Stages, StoredRow
from tasks.manifests.row import Row
from tasks.outcome import FailureReason, Outcome
from tasks.results.encoding import decode, reference_copy
from tasks.results.finishing import Finishing
from tasks.results.marking import Marker
from tasks.results.master import ORIGINALS, Master
from tasks.results.retouching import FIXES, KEEP_PRODUCT
from tasks.results.shelf import StoredPicture
from tasks.sources.intake import Intake

if TYPE_CHECKING:
    from models.engines.engine import Admit
    from models.engines.made_picture import Picture

logger = logging.getLogger(__name__)

Draw = Callable[[Sequence[Row], Screened, "Admit | None"], Iterator[Sequence["Picture"]]]
"""Makes the pictures of rows of a shard, batch by batch; what `Admit` refuses is refused."""

Compare = Callable[[Row, Any, np.ndarray], Verdict]
"""Judges a row's picture, uint8 [H, W, 3], beside `RowOriginals.compared`; what it measures are scores."""

Keep = Callable[[Any, np.ndarray], "np.ndarray | None"]
"""Lays the product on `RowOriginals.compared` over what a model made of it; None where it isn't found there."""


class PictureStages(Stages):
    """Prompts, or prompts and pictures, in; pictures out."""

    text = "prompt"

    def __init__(
        self,
        draw: Draw,
        resources: LaneResources,
        finishing: Finishing,
        source_type: DigitalSourceType,
        *,
        intake: Intake | None,
        conditions: bool,
        compare: Compare | None = None,
        keep: Keep | None = None,
        shows_prompts: bool = True,
    ) -> None:
        """`source_type` says how the pictures come about, and `finishing` what becomes of them.

        `intake` is where what pictures are drawn from may come from, where there is more than a prompt; see
        `Stages.conditions`. `compare` judges a picture beside that, and `keep` is for rows that keep its product, which
        makes composites of their pictures. A picture `shows_prompts` where its row's text says
        what is on it, and not what is to be done.
        """
        self.draw, self.judges, self.pool, self.recorder = draw, resources.judges, resources.pool, resources.recorder
        self.encoding, self.retouching = finishing.encoding, finishing.retouching
        self.marker = finishing.marking.open(source_type)
        self.composite_marker = replace(
            self.marker, source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
        )
        self.shelf = finishing.shelf(resources.store, from_before=resources.spec.from_before)
        self.originals = resources.original_reader(intake, keeps_alpha=False) if intake else None
        self.conditions, self.compare, self.keep = conditions, compare, keep
        self.shows_prompts = shows_prompts

    def read_originals(self, rows: Sequence[Row], masters: Mapping[str, Master]) -> list[RowOriginals | Outcome]:
        """Read what pictures are drawn from, or after, where there is more than a prompt."""
        del masters  # what was drawn says nothing of what it was drawn from
        if self.originals is None:
            return [RowOriginals(row) for row in rows]
        opened = self.pool.map(self.originals.read, rows)
        return [self._beside(one) if isinstance(one, RowOriginals) else one for one in opened]

    def _beside(self, originals: RowOriginals) -> RowOriginals:
        """Return a row's pictures with what its result is judged beside: these very pictures."""
        return originals if self.compare is None else replace(originals, compared=originals.pictures)

    def render(self, screened: Screened) -> Iterator[Rendered]:
        """Draw what is to be drawn."""
        rows = screened.to_render
        admission = ProbeAdmission(self.judges.policy.probe, rows, screened, self.recorder)
        for pictures in self.draw(rows, screened, admission.admit):
            yield [admission.rendered(picture) for picture in pictures]

    def classify(self, batch: Rendered, screened: Screened) -> Classified:
        """Judge pictures as they are stored: what is on each, what that means, its marks, and its marketplace."""
        opened = list(self.pool.map(lambda thing: self._opened(thing, screened), batch))
        ended: Classified = [thing for thing in opened if isinstance(thing, Outcome)]
        pictures = [thing for thing in opened if isinstance(thing, Made)]
        kept = [screened.kept.get(picture.row.id, {}) if self.shows_prompts else {} for picture in pictures]
        meant = self.judges.see([picture.pixels for picture in pictures], kept)
        judged = self.pool.map(lambda picture, meaning: self._judged(picture, meaning, screened), pictures, meant)
        return [*ended, *judged]

    def _opened(self, thing: Made | StoredRow | Outcome, screened: Screened) -> Made | Outcome:
        """Return a new picture finished and encoded, or a stored one fetched; a row that has ended stays as it is."""
        if isinstance(thing, Outcome):
            return thing
        try:
            if isinstance(thing, Made):
                kept = self._with_product(thing, screened)
                if isinstance(kept, Outcome):
                    return kept
                return self._read(thing.row, self._finished(thing, kept), thing.seconds, None)
            return self._read(thing.row, self.shelf.read(thing.master).picture, 0.0, thing.master)
        except CredentialsError as error:
            return self.recorder.failure(thing.row, FailureReason.UNSIGNED, str(error), retryable=True)
        except ValueError as error:
            return self.recorder.failure(thing.row, FailureReason.UNREADABLE, str(error), retryable=True)

    def _with_product(self, made: Made, screened: Screened) -> np.ndarray | Outcome | None:
        """Return what the model made with its source's own product over it; None where nobody wants or finds that.

        Where laying it over fails, the row ends: its picture isn't what it asks for.
        """
        if self.keep is None or not made.row.keeps_product:
            return None
        try:
            return self.keep(screened.compared[made.row.id], made.pixels)
        except Exception as error:
            logger.exception("The source's product could not be laid over a picture.")
            message = f"The source's product could not be laid over the picture: {type(error).__name__}."
            return self.recorder.failure(made.row, FailureReason.INTERNAL, message, retryable=True)

    def _finished(self, made: Made, kept: np.ndarray | None) -> bytes:
        """Return the bytes of what the model made, with the job's fixes, the profile's label and all marks.

        `kept` is the same with the source's own product, if it has that.
        """
        pixels, edits = self.retouching.fixed(made.pixels if kept is None else kept)
        if kept is not None:
            edits = [KEEP_PRODUCT, *edits]
        marker = self._marker(edits)
        if label := self._profile(made.row).visible_label:
            pixels = draw_label(pixels, label)
            edits = [*edits, Mark.VISIBLE_LABEL]
        data = self.encoding.encode(pixels, marker.packet(made.row.key, edits))
        return marker.signed(data, self.encoding.format, edits)

    def _marker(self, edits: Sequence[str]) -> Marker:
        """Return what marks a picture to which this was done after the model."""
        return self.composite_marker if KEEP_PRODUCT in edits else self.marker

    def _read(self, row: Row, data: bytes, seconds: float, master: Master | None) -> Made:
        """Return what the bytes hold that are stored, or will be: all that is judged is read from them."""
        file, pixels = examine(data), decode(data)
        marked = self._marker(read_marks(data).edits).find(data, file.format, row.key)
        marks = marked.found
        if (label := self._profile(row).visible_label) and (box := find_label(pixels, label)):
            # A marketplace looks at the product; and a classifier would take the label for a promotion.
            pixels, marks = without_label(pixels, box), (*marks, Mark.VISIBLE_LABEL)
        fixes = tuple(name for name in FIXES if name in marked.edits)
        return Made(row, pixels, seconds, master, contents=StoredPicture(data), file=file, fixes=fixes, marks=marks)

    def _judged(self, picture: Made, meaning: Verdict, screened: Screened) -> Made:
        """Return a picture with the verdict on it, and what it is told from others by."""
        verdicts = [
            inspect(picture.pixels),
            meaning,
            *self._demanded(picture, meaning),
            _kept(picture),
            self._compared(picture, screened),
            screened.probed.get(picture.row.id, allow()),
        ]
        if self.compare is not None and picture.master is None:
            beside = beside_edit(screened.sources[picture.row.id])
            picture = replace(picture, contents=replace(picture.contents, beside=beside))
        return replace(picture, fingerprint=fingerprint(picture.pixels), verdict=strictest(verdicts))

    def _demanded(self, picture: Made, meaning: Verdict) -> list[Verdict]:
        """Return what the job and the profile demand, of its marks and of the rest."""
        assert picture.file is not None
        profile, marks = self._profile(picture.row), self.marker.demanded
        near = self.judges.nearness(meaning)
        if meaning.failed:  # which refuses it; that nobody could see a concept is no fault of the picture's
            profile = profile.model_copy(update={"concepts": tuple(name for name in profile.concepts if name in near)})
        if profile.visible_label:
            marks = (*marks, Mark.VISIBLE_LABEL)
        return [
            judge_marks(picture.marks, marks),
            profile.check(picture.pixels, picture.file, extension=self.encoding.extension, concepts=near),
        ]

    def _compared(self, picture: Made, screened: Screened) -> Verdict:
        """Return what is said of a picture beside those that it was made from; a comparison that fails refuses it."""
        if self.compare is None:
            return allow()
        try:
            return self.compare(picture.row, screened.compared.get(picture.row.id), picture.pixels)
        except Exception as error:
            logger.exception("A picture could not be compared with what it was made from.")
            return unjudged(Reason.CLASSIFIER_FAILED, "picture could not be compared with what it was made from", error)

    def _profile(self, row: Row) -> Profile:
        return self.judges.profiles[row.profile]


def _kept(picture: Made) -> Verdict:
    """Refuse a picture that should show its source's own product and doesn't, because that wasn't found on it."""
    if not picture.row.keeps_product or KEEP_PRODUCT in picture.fixes:
        return allow()
    return refuse(
        Reason.PRODUCT_CHANGED,
        "The product wasn't found in the result, so its own pixels couldn't be laid over it (keep = product).",
    )


def beside_edit(originals: Sequence[np.ndarray]) -> dict[str, bytes]:
    """Return what an edited picture was made from, as its master has it, so that people can compare the two."""
    return {name: reference_copy(pixels) for name, pixels in zip(ORIGINALS, originals, strict=False)}

"""A kind of job that the project doesn't have: a picture and the word of a colour in, the tinted picture out.

It is all that a new kind takes: its job, its columns and rows, what decides how a picture is made, an engine, and the
value that names them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import ImageColor
from pydantic import Field

from models.checkpoints.checkpoint import Checkpoint
from models.engines.engine import Picture
from safety.marks.provenance import DigitalSourceType
from safety.verdict import Reason, Verdict, allow, refuse
from tasks.job import Job
from tasks.kinds.job_kind import JobKind, ManifestReading, Resolved
from tasks.kinds.job_marking import marking_of
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.lane.lane_resources import LaneResources
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import Screened
from tasks.manifests.key import seed_of
from tasks.manifests.known_columns import Columns
from tasks.manifests.manifest import known_values
from tasks.manifests.row import BadRow, Row, check_id, check_read, profile_of, whole
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.results.encoding import Encoding
from tasks.results.marking import Marking
from tasks.results.retouching import Retouching
from tasks.results.shelf import PictureShelf
from tasks.rows.originals import Originals
from tasks.sources.intake import Intake
from tasks.sources.source_error import SourceError
from tasks.stores.store import Store

COLUMNS = Columns(text=("id", "colour", "profile"), whole=("seed",), real=(), image=("image",))
CHECKPOINT = Checkpoint("paint", Path("paint"), hashlib.sha256(b"paint").hexdigest())


class TintJob(Job):
    """A job that tints pictures."""

    strength: float = Field(0.5, ge=0, le=1, description="How much of the colour is laid over a picture.")


@dataclass(frozen=True)
class Tinting:
    """What a job says of how its pictures are made."""

    intake: Intake
    strength: float
    marking: Marking = field(default_factory=Marking)

    @property
    def form(self) -> tuple[str | float, ...]:
        return "tint", self.strength

    @property
    def finish(self) -> dict[str, Any]:
        return self.marking.additions


def asked_of(values: Mapping[str, Any], job: TintJob) -> Row:
    """A row without its picture."""
    check_id(values["id"])
    check_read(values)
    if not (values.get("colour") or "").strip():
        raise RowError(Problem("colour", RowFault.EMPTY, "The colour is empty."))
    seed = whole(values, "seed", seed_of(job.sampling.seed, values["id"]), range(2**63))
    return Row(values["id"], values["colour"], "", seed, 0, 0, 1, 1.0, profile_of(values, job.marketplace.profile))


@dataclass(frozen=True)
class TintRows:
    """Reads rows, and the picture of each."""

    job: TintJob
    originals: Originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        self.originals.begin()
        yield from enumerate(map(self._row, known_values(batch, COLUMNS)))

    def keep(self, row: Row) -> None:
        self.originals.keep(row)

    def _row(self, values: Mapping[str, Any]) -> Row | BadRow:
        try:
            row, original = asked_of(values, self.job), self.originals.look("image", values.get("image"))
        except RowError as error:
            return BadRow.of(values["id"], values.get("colour") or "", error)
        except SourceError as error:
            return BadRow(values["id"], values["colour"], error.message, error.reason, error.retryable)
        size = {"width": original.width, "height": original.height}
        return replace(row, **size, image=original.address, source=original.source)


class Tinter:
    """The engine: it lays a colour over a picture."""

    usage = None
    made: ClassVar[Counter[str]] = Counter()  # words that were tinted with, by all of them

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def tint(self, asked: Sequence[tuple[str, np.ndarray]]) -> Iterator[list[Picture]]:
        for index, (word, picture) in enumerate(asked):
            self.made[word] += 1
            colour = np.array(ImageColor.getrgb(word.split()[0]))
            pixels = picture * (1 - self.strength) + colour * self.strength
            yield [Picture(index, pixels.astype(np.uint8), None, 0.01)]


def resolve(job: TintJob) -> Resolved:
    result_spec = Tinting(
        intake_of(job.manifest, job.sources),
        job.strength,
        marking_of(job.marketplace),
    )

    @contextmanager
    def rows(store: Store | None) -> Iterator[TintRows]:
        with opened_originals(result_spec.intake, store) as originals:
            yield TintRows(job, originals)

    return Resolved(CHECKPOINT, (), "checkpoint", result_spec, columns=COLUMNS, template_columns=None, reader=rows)


def reading(job: TintJob) -> ManifestReading:
    def bad_rows(batch: pa.RecordBatch) -> Iterator[BadRow]:
        for values in known_values(batch, COLUMNS):
            try:
                asked_of(values, job)
            except RowError as error:
                yield BadRow.of(values["id"], "", error)

    return ManifestReading(COLUMNS, None, bad_rows)


def compare(originals: tuple[np.ndarray, ...], picture: np.ndarray) -> Verdict:
    """Refuse what has left nothing of the original."""
    (original,) = originals
    of_original, of_picture = (np.ptp(pixels.astype(int), axis=(0, 1)).max() for pixels in (original, picture))
    left = float(of_picture / max(of_original, 1))
    return allow({"left": left}) if left > 0 else refuse(Reason.BLANK, "Nothing is left of the original.", {"left": 0})


def open_engine(spec: LaneSpec) -> Any:
    assert isinstance(spec.result_spec, Tinting)
    return Tinter(spec.result_spec.strength)


def open_stages(resources: LaneResources) -> PictureStages:
    result_spec, encoding = resources.spec.result_spec, Encoding("png", 100)
    assert isinstance(result_spec, Tinting)

    def draw(rows: Sequence[Row], screened: Screened, _: object) -> Iterator[list[Picture]]:
        tinter: Tinter = resources.engine()
        return tinter.tint([(row.prompt, *screened.sources[row.id]) for row in rows])

    return PictureStages(
        draw=draw,
        judges=resources.judges,
        shelf=PictureShelf(resources.store, encoding),
        encoding=encoding,
        retouching=Retouching(),
        marker=result_spec.marking.open(TINT.source_type),
        originals=resources.original_reader(result_spec.intake, keeps_alpha=False),
        conditions=True,
        compare=compare,
        pool=resources.pool,
        recorder=resources.recorder,
    )


TINT = JobKind(
    name="tint",
    does="Tint the pictures of a manifest, and say what became of every row.",
    job=TintJob,
    pipeline="TintPipeline",
    told_by=("image", "colour"),
    row_fields=(),
    text_column="prompt",
    source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
    gives_pictures=True,
    resolve=resolve,
    reading=reading,
    open_engine=open_engine,
    open_stages=open_stages,
)

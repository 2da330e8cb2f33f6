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
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import ImageColor
from pydantic import Field

from models.checkpoints.checkpoint import Checkpoint
from models.engines.made_picture import Picture
from safety.marks.provenance import DigitalSourceType
from safety.verdict import Reason, Verdict, allow, refuse
from tasks.job import Job
from tasks.kinds.found_models import FoundModels
from tasks.kinds.job_finishing import marking_of
from tasks.kinds.job_kind import JobKind, ManifestReading, Resolved
from tasks.kinds.job_originals import intake_of, opened_originals
from tasks.lane.lane_resources import LaneResources
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import Screened
from tasks.manifests.key import seed_of
from tasks.manifests.known_columns import Columns
from tasks.manifests.row import Row, check_id, check_read, profile_of, whole
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.results.encoding import Encoding
from tasks.results.finishing import Finishing
from tasks.results.marking import Marking
from tasks.rows.originals import OriginalReference
from tasks.rows.source_rows import SourceRows, bad_source_rows
from tasks.sources.intake import Intake
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


def fitted(row: Row, original: OriginalReference) -> Row:
    """A row at the size of its picture."""
    return replace(row, width=original.width, height=original.height)


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
    def rows(store: Store | None) -> Iterator[SourceRows]:
        with opened_originals(result_spec.intake, store) as originals:
            yield SourceRows(COLUMNS, "colour", partial(asked_of, job=job), fitted, originals)

    models = FoundModels(CHECKPOINT, (), "checkpoint")
    return Resolved(models, result_spec, columns=COLUMNS, template_columns=None, reader=rows)


def reading(job: TintJob) -> ManifestReading:
    ask = partial(asked_of, job=job)
    return ManifestReading(COLUMNS, None, lambda batch: bad_source_rows(batch, COLUMNS, ask))


def compare(_: Row, originals: tuple[np.ndarray, ...], picture: np.ndarray) -> Verdict:
    """Refuse what has left nothing of the original."""
    (original,) = originals
    of_original, of_picture = (np.ptp(pixels.astype(int), axis=(0, 1)).max() for pixels in (original, picture))
    left = float(of_picture / max(of_original, 1))
    return allow({"left": left}) if left > 0 else refuse(Reason.BLANK, "Nothing is left of the original.", {"left": 0})


def open_engine(spec: LaneSpec) -> Any:
    assert isinstance(spec.result_spec, Tinting)
    return Tinter(spec.result_spec.strength)


def open_stages(resources: LaneResources) -> PictureStages:
    result_spec = resources.spec.result_spec
    assert isinstance(result_spec, Tinting)

    def draw(rows: Sequence[Row], screened: Screened, _: object) -> Iterator[list[Picture]]:
        tinter: Tinter = resources.engine()
        return tinter.tint([(row.prompt, *screened.sources[row.id]) for row in rows])

    finishing = Finishing(Encoding("png", 100), marking=result_spec.marking)
    return PictureStages(
        draw, resources, finishing, TINT.source_type, intake=result_spec.intake, conditions=True, compare=compare
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

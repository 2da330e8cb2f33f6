"""What sets one kind of job apart from the others: one value a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from tasks.job import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from models.checkpoints.checkpoint import Checkpoint
    from safety.marks.provenance import DigitalSourceType
    from tasks.kinds.found_models import FoundModels
    from tasks.lane.lane_resources import LaneEngine, LaneResources
    from tasks.lane.lane_spec import LaneSpec, ResultSpec
    from tasks.lane.outcome_recorder import TextColumn
    from tasks.lane.stages import Stages
    from tasks.ledger.plan import Rows
    from tasks.manifests.known_columns import Columns
    from tasks.manifests.manifest import Manifest
    from tasks.manifests.row import BadRow
    from tasks.stores.store import Store

AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class Resolved:
    """A job with all that its kind alone decides: its models, how results are made, and how its manifest is read."""

    models: FoundModels
    result_spec: ResultSpec
    columns: Columns  # of its manifest
    template_columns: tuple[str, ...] | None  # what its prompt template reads, None when it has none
    reader: Callable[[Store | None], AbstractContextManager[Rows]]
    """Opens what reads rows; pictures that a manifest holds are put into the store for the lanes, if one is given."""
    beside: Mapping[str, Checkpoint] = field(default_factory=dict)  # what else is loaded, by the field that names it


@dataclass(frozen=True)
class ManifestReading:
    """How a job reads its manifest, as far as that takes no picture and no model that would have to be fetched."""

    columns: Columns
    template_columns: tuple[str, ...] | None  # as `Resolved` has it
    bad_rows: Callable[[pa.RecordBatch], Iterator[BadRow]]  # those of a batch that would fail
    named_columns: tuple[str, ...] = ()  # what else rows may be built from, where the manifest has it
    check: Callable[[Manifest], None] = lambda _: None  # refuses a manifest as a whole, with a RequestError


@dataclass(frozen=True)
class JobKind(Generic[AnyJob]):
    """What sets one kind of job apart: a folder of `tasks.kinds` defines one, and nothing outside asks which it is.

    Its functions import what takes long to import: the command line knows every kind, whichever is run.
    """

    name: str  # of its command and its flow; a lane is told it, too
    does: str  # what its command and its flow do, a sentence
    job: type[AnyJob]
    pipeline: str  # the diffusers pipeline that its checkpoints are for
    told_by: tuple[str, ...]  # columns by which its manifests are told from those of other kinds
    row_fields: tuple[str, ...]  # of its jobs alone, that decide which rows fail before a picture is looked at
    text_column: TextColumn  # where the catalogue has the text of its rows
    source_type: DigitalSourceType  # how its results come about, as their marks say it
    gives_pictures: bool  # single ones, in which a profile's concepts are looked for and its label is drawn

    resolve: Callable[[AnyJob], Resolved]
    """Finds a job's models, and resolves what its kind alone decides.

    Raises RequestError if a value can't be, and CheckpointError if a model isn't there or is for another kind.
    """
    reading: Callable[[AnyJob], ManifestReading]
    """Says how a job reads its manifest; raises RequestError and CheckpointError as `resolve` does."""
    open_engine: Callable[[LaneSpec], LaneEngine]
    """Loads what makes results, on a lane's device."""
    open_stages: Callable[[LaneResources], Stages]
    """Opens what the stages of a lane do with rows; the engine isn't loaded before they ask for it."""
    made: str = "rendered"
    """What a run says of the results that it made."""
    controlnet_of: Callable[[AnyJob], tuple[str, str | None] | None] = lambda _: None
    """The ControlNet that a job names, and its revision."""
    mask_model_of: Callable[[AnyJob], tuple[str, str | None] | None] = lambda _: None
    """What a job names that finds products on pictures, and its revision."""

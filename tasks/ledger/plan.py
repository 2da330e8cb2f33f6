"""The plan: every row of the manifest, and the shard of each one that is still to do. Written once, never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.ledger.kept import UNJUDGED
from tasks.manifests.key import Maker, judged_with, reseed
from tasks.manifests.manifest import Manifest
from tasks.manifests.row import BadRow, PlannedPicture, Row, RowShape
from tasks.manifests.variant_ids import shared_id
from tasks.outcome import RENAMED, Status
from tasks.stores.stored_table import naming, read_table

PICTURE = pa.struct(  # its address, SHA-256 of its bytes, and the column that names it
    [("image", pa.string()), ("source", pa.string()), ("column", pa.string())]
)
COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("steps", pa.int32()),
        pa.field("guidance", pa.float64()),
        pa.field("profile", pa.string()),
        pa.field("image", pa.string()),  # the address of a source picture, or of a control picture
        pa.field("source", pa.string()),  # SHA-256 of its bytes
        pa.field("references", pa.list_(PICTURE)),  # others
        pa.field("mask", PICTURE),  # where the product of the source picture is
        pa.field("layers", pa.int32()),
        pa.field("instruction_name", pa.string()),  # of a ready-made one
        pa.field("instruction_values", pa.map_(pa.string(), pa.string())),
        pa.field("keep_digest", pa.string()),  # how the source's own product is laid over the picture, if it is
        pa.field("key", pa.string()),
        pa.field("judged_by", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("shard", pa.int32()),  # null: nothing to do, the catalogue's outcome stands, or the row is bad
        pa.field("problem", pa.string()),  # what is wrong with a bad row, a sentence
        pa.field("reason", pa.string()),  # of a bad row's failure
        pa.field("retryable", pa.bool_()),  # whether a bad row may do another time
        pa.field("kept_because", pa.string()),  # why a row keeps what it has, whatever it asks for now, a sentence
    ]
)
OF_OTHER_ROWS = ("problem", "reason", "retryable", "kept_because")  # columns that tell a shard's rows nothing
REFERENCES, MASK = "references", "mask"
REMEDY = "restore it, or remove that run's folder, and the same command plans anew; what was made stays"
CARRIED = "carried:"  # before the name of a column that the manifest carries to the catalogue
PLANNED_FROM = b"planned_from"  # in the metadata: the catalogue's version that the plan was made from
UNLIKE_OTHERS = b"unlike_others"  # and, as JSON, the profiles of its rows that allow no picture like another one's


@dataclass(frozen=True)
class Known:
    """What the catalogue says of a row: enough to decide whether it is still to do."""

    status: str
    key: str
    policy_fingerprint: str
    attempt: int
    retryable: bool  # what went wrong was not the row's doing: the same picture may pass
    reason: str | None = None
    text: str = ""  # of a row that waits for a person: its prompt, or the caption of its source picture
    asks: tuple[str, ...] = ()  # and the concepts for which a person must look

    @property
    def still_to_judge(self) -> bool:
        """Whether the last look at it failed, so that what was known of it before stands: see `tasks.ledger.kept`."""
        return self.retryable and self.status != Status.FAILED and self.reason not in UNJUDGED


@dataclass(frozen=True)
class KeptRow:
    """A row that nothing is done about: nobody knows what it asks for now, so what the catalogue says stands."""

    id: str
    prompt: str
    key: str
    policy_fingerprint: str
    attempt: int
    kept_because: str  # a sentence


@dataclass(frozen=True)
class Unread:
    """How many rows keep the outcome that they had because their source picture can't be read now."""

    rows: int = 0
    example: str | None = None  # the id of one of them
    why: str | None = None  # what is said of that one's source, a sentence

    @property
    def sentence(self) -> str:
        """What a person is told where there are any."""
        if self.rows == 1:
            return f"1 row was kept as it was because its source can't be read now, {self.example}: {self.why}"
        return (
            f"{self.rows} rows were kept as they were because their source can't be read now, {self.example} for one: "
            f"{self.why}"
        )


@dataclass
class PlanCounts:
    """How many rows of a plan there are of each kind."""

    rows: int = 0
    to_do: int = 0
    carried_over: int = 0
    unread: int = 0  # kept as they were, because their source can't be read now
    bad: int = 0
    turned_bad: int = 0  # of those, the ones that the catalogue doesn't have as such yet
    shards: int = 0
    shapes: dict[RowShape, int] = field(default_factory=dict)  # rows to do of each shape


class Rows(Protocol):
    """Reads what a manifest's rows ask for."""

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""

    def keep(self, row: Row) -> None:
        """See that a row of the last batch can be done later: what it is made from may be nowhere else."""


class Planner:
    """Decides, row by row, what is still to do, and assigns the rows to shards of one shape."""

    def __init__(
        self,
        *,
        rows: Rows,
        maker: Maker,
        policy_fingerprint: Callable[[str], str],
        label_of: Callable[[str], str | None] = lambda _: None,
        known: Callable[[Sequence[str]], Sequence[Known | None]],
        retry: frozenset[str],
        shard_rows: int,
        decided: Callable[[Known], bool] = lambda _: False,
    ) -> None:
        """`policy_fingerprint` names the judges of a profile, or raises ValueError where there is no such one.

        `label_of` is the visible label that a profile wants drawn into its pictures.
        `known` looks ids up in the catalogue so far; `retry` are the statuses whose rows are done again. `decided` says
        whether a person's answer ends a row's waiting; it is asked where the catalogue says that it waits.
        """
        self.rows, self.maker, self.policy_fingerprint, self.label_of = rows, maker, policy_fingerprint, label_of
        self.known, self.retry, self.shard_rows, self.decided = known, retry, shard_rows, decided
        self.plan_counts = PlanCounts()
        self._open: dict[RowShape, tuple[int, int]] = {}  # shape → its shard, and the rows in it

    def table(self, batch: pa.RecordBatch, carried: pa.Schema) -> pa.Table:
        """Return the plan of one batch of the manifest."""
        read = list(self.rows.read(batch))
        sources, rows = [index for index, _ in read], [row for _, row in read]
        planned = [self._plan(row, known) for row, known in zip(rows, self.known([r.id for r in rows]), strict=True)]
        columns = {column.name: _values(planned, column) for column in COLUMNS}
        carried_columns = {CARRIED + name: batch.column(name).take(pa.array(sources)) for name in carried.names}
        return pa.table({**columns, **carried_columns})

    def _plan(self, row: Row | BadRow, known: Known | None) -> Row | BadRow | KeptRow:
        self.plan_counts.rows += 1
        if isinstance(row, Row):
            try:
                policy_fingerprint = judged_with(self.policy_fingerprint(row.profile), row.checks_digest)
            except ValueError as error:
                row = BadRow(row.id, row.prompt, str(error))
        if isinstance(row, BadRow):
            if row.is_unread and known is not None and known.key and known.status != Status.FAILED:
                self.plan_counts.unread += 1
                return KeptRow(row.id, row.prompt, known.key, known.policy_fingerprint, known.attempt, row.problem)
            self.plan_counts.bad += 1
            if known is None or (known.status, known.reason) != (Status.FAILED, row.reason):
                self.plan_counts.turned_bad += 1
            return row
        key, seed, attempt, to_do = self._attempt(row, policy_fingerprint, known)
        shard = self._assign_to_shard(row.shape) if to_do else None
        if to_do:
            self.plan_counts.to_do += 1
            self.rows.keep(row)
        else:
            self.plan_counts.carried_over += 1
        return replace(row, seed=seed, key=key, policy_fingerprint=policy_fingerprint, attempt=attempt, shard=shard)

    def _attempt(self, row: Row, policy_fingerprint: str, known: Known | None) -> tuple[str, int, int, bool]:
        """Return the key, seed and number of the next attempt at this row, and whether there is one to make."""
        label = self.label_of(row.profile)
        for made in range(known.attempt, 0, -1) if known else ():
            seed = reseed(row.seed, made)
            key = self.maker.key(row, seed, label=label)
            if known is None or key != known.key:
                continue
            changed = known.policy_fingerprint != policy_fingerprint or known.still_to_judge
            if known.reason in (Reason.REVIEW_APPROVED, Reason.RETIRED):
                return key, seed, known.attempt, True
            if known.reason == Reason.REVIEW:  # which is for a person to end: not made again, whatever is to be retried
                return key, seed, known.attempt, changed or self.decided(known)
            if known.status not in self.retry:
                return key, seed, known.attempt, changed
            if known.status == Status.REJECTED and (known.still_to_judge or not known.retryable):
                seed = reseed(row.seed, known.attempt + 1)
                key = self.maker.key(row, seed, label=label)
            return key, seed, known.attempt + 1, True
        return self.maker.key(row, row.seed, label=label), row.seed, 1, True

    def _assign_to_shard(self, shape: RowShape) -> int:
        shard, rows = self._open.get(shape, (-1, self.shard_rows))
        if rows == self.shard_rows:
            shard, rows = self.plan_counts.shards, 0
            self.plan_counts.shards += 1
        self._open[shape] = shard, rows + 1
        self.plan_counts.shapes[shape] = self.plan_counts.shapes.get(shape, 0) + 1
        return shard


def _values(rows: Sequence[Row | BadRow | KeptRow], column: pa.Field) -> pa.Array:
    """Return a column of the plan: what the rows have by its name, null where they have no such thing."""
    name = RENAMED.get(column.name, column.name)
    values = [getattr(row, name, None) for row in rows]
    if name == REFERENCES:
        values = [[asdict(one) for one in pictures] if pictures else None for pictures in values]
    if name == MASK:
        values = [asdict(picture) if picture else None for picture in values]
    return pa.array(values, column.type)


def write_plan(
    planner: Planner,
    manifest: Manifest,
    file: Path,
    *,
    limit: int | None = None,
    planned_from: int = 0,
    unlike_others: Callable[[], Sequence[str]] = tuple,
) -> PlanCounts:
    """Plan the manifest's first `limit` rows into `file`.

    `planned_from` is the version of the catalogue that the planner knows. `unlike_others` gives, when all rows were
    planned, the profiles of them that allow no picture like another one's.

    Raises:
        ManifestError: if the manifest is damaged, or variants give two rows one id.
    """
    carried = manifest.carried
    metadata = {b"planned_at": _now().encode(), PLANNED_FROM: str(planned_from).encode()}
    schema = pa.schema([*COLUMNS, *(f.with_name(CARRIED + f.name) for f in carried)], metadata)
    seen: list[pa.Array] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _first(manifest.batches(), limit):
            table = pa.Table.from_arrays(planner.table(batch, carried).columns, schema=schema)
            seen.extend(table.column("id").chunks)
            writer.write_table(table)
        writer.add_key_value_metadata({UNLIKE_OTHERS: json.dumps([*unlike_others()]).encode()})
    counts = pc.value_counts(pa.chunked_array(seen, pa.string()))
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise shared_id(manifest.name, repeated.field("values")[0].as_py())
    return planner.plan_counts


def _first(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True)
class Plan:
    """A plan that was written, read from its file as it is needed.

    Its methods raise StoreError where the file is damaged.
    """

    file: Path
    uri: str = field(default="", compare=False)  # where it lies in the store, if it does

    def _read(self, **options: Any) -> pa.Table:
        return read_table(self.file, self.uri or str(self.file), REMEDY, **options)

    @property
    def _schema(self) -> pa.Schema:
        with naming(self.uri or str(self.file), REMEDY):
            return pq.read_schema(self.file)

    @property
    def planned_at(self) -> datetime:
        return datetime.fromisoformat(self._schema.metadata[b"planned_at"].decode())

    @property
    def planned_from(self) -> int | None:
        """The catalogue's version that this was made from; None of a plan from before there were versions."""
        version = self._schema.metadata.get(PLANNED_FROM)
        return None if version is None else int(version)

    @property
    def shards(self) -> int:
        """How many shards there are; they are numbered from 0."""
        highest = pc.max(self._read(columns=["shard"]).column("shard")).as_py()
        return 0 if highest is None else int(highest) + 1

    def largest_first(self) -> list[int]:
        """Return the shards in the order of how much work they are: so many rows, pixels and steps."""
        rows = self._read(columns=["shard", "width", "height", "steps", "guidance", "layers"])
        rows = rows.filter(pc.is_valid(rows.column("shard")))
        work = pc.multiply(
            pc.multiply(pc.cast(rows.column("width"), pa.float64()), rows.column("height")),
            pc.multiply(rows.column("steps"), pc.if_else(pc.greater(rows.column("guidance"), 1.0), 2.0, 1.0)),
        )
        # Layers are denoised together, with the picture that they are of.
        work = pc.multiply(work, pc.add(pc.fill_null(rows.column("layers"), 0), 1))
        summed = pa.table({"shard": rows.column("shard"), "work": work}).group_by("shard").aggregate([("work", "sum")])
        ordered = summed.sort_by([("work_sum", "descending"), ("shard", "ascending")])
        return [int(shard) for shard in ordered.column("shard").to_pylist()]

    @property
    def to_do(self) -> int:
        """How many rows the shards hold."""
        shards = self._read(columns=["shard"]).column("shard")
        return int(len(shards) - shards.null_count)

    @property
    def unread(self) -> Unread:
        """The rows that are kept as they were because their source can't be read now."""
        if "kept_because" not in self._schema.names:  # written by a packshot that kept none
            return Unread()
        kept = self._read(columns=["id", "kept_because"])
        kept = kept.filter(pc.is_valid(kept.column("kept_because")))
        return Unread(kept.num_rows, *kept.slice(0, 1).to_pylist()[0].values()) if kept.num_rows else Unread()

    def profiles(self) -> list[str]:
        """Return the profiles that rows name."""
        names = pc.unique(self._read(columns=["profile"]).column("profile")).drop_null()
        return sorted(names.to_pylist())

    def shard(self, number: int) -> list[Row]:
        """Return the rows of one shard, in plan order."""
        known = self._schema.names  # a packshot of before wrote fewer
        names = [name for name in COLUMNS.names if name not in OF_OTHER_ROWS and name in known]
        table = self._read(columns=names, filters=[("shard", "=", number)])
        table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
        return [_row(values) for values in table.to_pylist()]

    def table(self) -> pa.Table:
        """Return every row, as Arrow."""
        return self._read()


def _row(values: dict[str, Any]) -> Row:
    """Return a row of the values of its columns; nested ones are none where a packshot of before wrote none."""
    references = tuple(PlannedPicture(**value) for value in values.get(REFERENCES) or ())
    mask = PlannedPicture(**values[MASK]) if values.get(MASK) else None
    said = dict(values.get("instruction_values") or ())
    return Row(**{**values, REFERENCES: references, MASK: mask, "instruction_values": said})


def sources_in(plan: pa.Table) -> set[str]:
    """Return the hashes of all pictures that a plan's rows are made from."""
    sources = set(plan.column("source").drop_null().to_pylist())
    if REFERENCES in plan.column_names:
        further = pc.list_flatten(plan.column(REFERENCES))
        sources |= set(pc.struct_field(further, "source").to_pylist())
    if MASK in plan.column_names:
        sources |= set(pc.struct_field(plan.column(MASK), "source").drop_null().to_pylist())
    return sources


def bad_rows(plan: pa.Table) -> list[BadRow]:
    """Return every row that fails on its own."""
    bad = plan.filter(pc.is_valid(plan.column("problem"))).select(["id", "prompt", "problem", "reason", "retryable"])
    return [BadRow(**row) for row in bad.to_pylist()]

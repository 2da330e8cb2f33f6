"""What became of a row: the words for it, and the Arrow schema that the ledger and the catalogue share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import pyarrow as pa

from safety.verdict import ScoreLimit


class Status(StrEnum):
    """How a row ends; every row of a manifest ends as exactly one of these."""

    DONE = "done"
    BLOCKED = "blocked"
    REJECTED = "rejected"
    FAILED = "failed"


class Retry(StrEnum):
    """The ends that a person can ask to try again; what is done stays done."""

    FAILED = Status.FAILED
    REJECTED = Status.REJECTED
    BLOCKED = Status.BLOCKED


class FailureReason(StrEnum):
    """Why a row failed. Why one was blocked or rejected is in `safety.verdict.Reason`."""

    BAD_VALUE = "bad_value"
    PROMPT_TOO_LONG = "prompt_too_long"
    NOT_FINITE = "not_finite"
    OUT_OF_MEMORY = "out_of_memory"
    UNREADABLE = "unreadable"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_UNREACHABLE = "source_unreachable"
    SOURCE_CHANGED = "source_changed"
    SOURCE_TOO_LARGE = "source_too_large"
    SOURCE_CORRUPT = "source_corrupt"
    SOURCE_UNSUPPORTED = "source_unsupported"
    UNSIGNED = "unsigned"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Outcome:
    """One row's end, as the ledger records it and the catalogue shows it.

    `policy_fingerprint` names the policy, the CLIP and the profile that judged it (see
    `tasks.manifests.key.judgement`): when one of them changes, the stored picture is judged again. `uri` and
    `layer_uris` are those of the master; the catalogue of a row that is done has those of its publication.
    `seconds` is the row's share of the time its batch took to render.
    `limits` is what some of the scores were held to, and `source_uris` is where the pictures lie that an edit was made
    from, as the model was given them: the source, and then the references.
    `asks` is for which concepts a person must look, with how far each is over its limit, and `reviewed_by` and
    `reviewed_at` say whose decision it is that the outcome rests on.
    `keeps` says that the row couldn't be looked at, which changes nothing that is known of it (see
    `tasks.ledger.kept`); it stands in ledgers alone. `planned_from` is the catalogue's version that the row's plan was
    made from, and `changed_in` the version that the row was changed in (see `tasks.catalogue.row_versions`); they stand
    in the catalogue alone.
    `fixes` is what was done to the picture after the model, `marks` is what was found when the stored one was read
    back, and `fingerprint` is what it is told from others by (see `safety.pictures.likeness`).
    """

    id: str
    status: Status
    key: str
    seed: int
    prompt: str
    model: str
    profile: str
    policy_fingerprint: str
    run: str
    attempt: int
    reason: str | None = None
    message: str | None = None
    retryable: bool = False
    uri: str | None = None
    layer_uris: list[str] = field(default_factory=list)
    source_uris: list[str] = field(default_factory=list)
    width: int | None = None
    height: int | None = None
    format: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    caption: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    limits: Mapping[str, ScoreLimit] = field(default_factory=dict)
    asks: dict[str, float] = field(default_factory=dict)
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    fixes: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    seconds: float = 0.0
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    keeps: bool = False
    planned_from: int | None = None
    changed_in: int | None = None


LIMIT = pa.struct([(name, pa.float32()) for name in ("most", "least", "review")])
"""A `safety.verdict.ScoreLimit`."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("retryable", pa.bool_(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("layer_uris", pa.list_(pa.string())),
        pa.field("source_uris", pa.list_(pa.string())),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("prompt", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("model", pa.string()),
        pa.field("scores", pa.map_(pa.string(), pa.float32())),
        pa.field("limits", pa.map_(pa.string(), LIMIT)),
        pa.field("asks", pa.map_(pa.string(), pa.float32())),
        pa.field("reviewed_by", pa.string()),
        pa.field("reviewed_at", pa.timestamp("us", tz="UTC")),
        pa.field("fixes", pa.list_(pa.string())),
        pa.field("marks", pa.list_(pa.string())),
        pa.field("fingerprint", pa.string()),
        pa.field("profile", pa.string()),
        pa.field("policy_fingerprint", pa.string()),
        pa.field("run", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("seconds", pa.float32()),
        pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""What ledgers and the catalogue say of a row."""

CATALOGUE_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("planned_from", pa.int64()),
        pa.field("changed_in", pa.int64()),
    ]
)
"""The first columns of the catalogue; a manifest's carried columns follow them."""

LEDGER = SCHEMA.append(pa.field("keeps", pa.bool_(), nullable=False))
"""The columns of a ledger."""

ADDED = (
    *("source_uris", "limits", "asks", "reviewed_by", "reviewed_at", "fixes", "marks", "fingerprint"),
    *("planned_from", "changed_in"),
)
"""Columns that tables of before lack: empty there."""
RENAMED = {"judged_by": "policy_fingerprint"}
"""Columns that had another name. A packshot of before misses them, so it refuses a catalogue that it would misread."""


def widened(table: pa.Table, schema: pa.Schema = SCHEMA) -> pa.Table:
    """Return a ledger or catalogue with today's columns, where it was written before some of them were added."""
    table = table.rename_columns([RENAMED.get(name, name) for name in table.schema.names])
    for name in ADDED:
        if name in schema.names and name not in table.schema.names:
            field_ = schema.field(name)
            table = table.add_column(schema.get_field_index(name), field_, pa.nulls(table.num_rows, field_.type))
    return table


def ledger(table: pa.Table) -> pa.Table:
    """Return a ledger with the columns that were added since it was written."""
    table = widened(table)
    if "keeps" in table.schema.names:
        return table
    return table.append_column(LEDGER.field("keeps"), pa.repeat(False, table.num_rows))


def outcome_table(outcomes: list[Outcome]) -> pa.Table:
    """Return outcomes as a table of `LEDGER`."""
    columns = {name: [getattr(outcome, name) for outcome in outcomes] for name in LEDGER.names}
    for name in ("scores", "asks"):
        columns[name] = [list(pairs.items()) for pairs in columns[name]]
    columns["limits"] = [[(name, asdict(limit)) for name, limit in limits.items()] for limits in columns["limits"]]
    return pa.table({name: pa.array(columns[name], LEDGER.field(name).type) for name in LEDGER.names}, schema=LEDGER)

"""The catalogue: the newest outcome of every row, with the columns that the manifest carried. What a shop reads.

Beside its rows it has a state, in the metadata of the Parquet file: its version, who may be editing it at this moment,
and which publications are still to be deleted. Rows and state change together, by compare-and-swap.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.outcome import ADDED, CATALOGUE_SCHEMA, RENAMED, widened
from tasks.plan import Known
from tasks.process import Owner
from tasks.publication import Publication
from tasks.request import RequestError
from tasks.store import Store

PATH = "catalog.parquet"
STATE = b"packshot"  # the key of the state in the file's metadata
FORMAT = 2  # of the store's layout: 1 had no masters, and no state


class UnreadableCatalogue(RequestError):  # noqa: N818
    """What lies where the catalogue should be can't be read, and isn't that of a newer packshot."""


@dataclass(frozen=True)
class Editor:
    """A process that may be making masters or publications at this moment."""

    doing: str  # for people: "run 0123456789ab", "review"
    owner: Owner
    since: str  # when it came, for people
    publications: tuple[Publication, ...] = ()  # that it may have made

    @property
    def sentence(self) -> str:
        """Who does what since when."""
        return f"{self.doing} ({self.owner.sentence}, since {self.since})"


@dataclass(frozen=True)
class State:
    """What the catalogue's metadata says."""

    version: int = 0  # goes up with every change of the file
    editors: Mapping[str, Editor] = field(default_factory=dict)  # by the name, P, under which each publishes
    owed: tuple[Publication, ...] = ()  # that no row names any more, and that are still to be deleted
    from_before: bool = False  # this store has pictures that were written before there were masters
    pruned: int = 0  # the version in which somebody came in last to prune the store


@dataclass(frozen=True)
class Catalogue:
    """A catalogue as it was read, and the token that its object had in the store."""

    table: pa.Table
    token: str | None
    state: State = field(default_factory=State)

    def known(self, ids: Sequence[str]) -> list[Known | None]:
        """Return what is known of these rows; None for a row that the catalogue doesn't have."""
        places = pc.index_in(pa.array(ids, pa.string()), value_set=self.table.column("id").combine_chunks())
        columns = [self.table.column(name).take(places).to_pylist() for name in KNOWN_COLUMNS]
        texts = pc.coalesce(*(self.table.column(name).take(places) for name in ("caption", "prompt")))
        waits = pc.equal(self.table.column("reason").take(places), Reason.REVIEW)
        texts = pc.if_else(pc.fill_null(waits, False), texts, "")  # of all rows they would be much to carry
        asks = [tuple(name for name, _ in said or ()) for said in self.table.column("asks").take(places).to_pylist()]
        return [
            None if place is None else Known(*values, text=said, asks=asked)  # type: ignore[misc]  # they aren't values
            for place, said, asked, *values in zip(places.to_pylist(), texts.to_pylist(), asks, *columns, strict=True)
        ]

    def part(self, plan: pa.Table) -> pa.Table:
        """Return the rows that a plan is about, in plan order."""
        places = pc.index_in(plan.column("id"), value_set=self.table.column("id").combine_chunks())
        return self.table.take(places.drop_null())

    def seconds_a_row(self) -> float | None:
        """Return the mean rendering time of a picture, from what is recorded; None when nothing was rendered yet."""
        seconds = self.table.column("seconds")
        mean = pc.mean(seconds.filter(pc.greater(seconds, 0))).as_py()
        return None if mean is None else float(mean)

    def bytes_a_row(self) -> float | None:
        """Return the mean room that a row's master takes, in bytes; None when nothing is stored yet.

        Of layers the catalogue knows the size of the composite alone: the source and each layer count as much.
        """
        sizes = self.table.column("bytes")
        layers = pc.fill_null(pc.list_value_length(self.table.column("layer_uris")), 0)
        objects = pc.if_else(pc.greater(layers, 0), pc.add(layers, 2), 1)
        mean = pc.mean(pc.multiply(sizes, objects)).as_py()
        return None if mean is None else float(mean)


KNOWN_COLUMNS = ("status", "key", "policy_fingerprint", "attempt", "retryable", "reason")


def read_catalogue(store: Store) -> Catalogue:
    """Return the store's catalogue; an empty one where there is none yet.

    Raises:
        RequestError: if `catalog.parquet` is there and isn't a catalogue, or one of a newer packshot.
    """
    found = store.read(PATH)
    if found is None:
        return Catalogue(CATALOGUE_SCHEMA.empty_table(), None)
    content, token = found
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:  # the latter of a page that doesn't unpack
        raise UnreadableCatalogue(
            f"{store.uri_of(PATH)} is not a Parquet file that can be read: write the catalogue anew with packshot "
            f"rebuild --store {store.uri}."
        ) from error
    names = {RENAMED.get(name, name) for name in table.schema.names}
    missing = set(CATALOGUE_SCHEMA.names) - names - set(ADDED)
    if missing:
        raise RequestError(f"{store.uri_of(PATH)} is not a packshot catalogue: it lacks the column {min(missing)!r}.")
    metadata = table.schema.metadata or {}
    table = widened(table.replace_schema_metadata(None), CATALOGUE_SCHEMA)
    if STATE in metadata:
        return Catalogue(table, token, _state(metadata[STATE], store))
    for name in ("planned_from", "changed_in"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pc.fill_null(table.column(name), 0))
    return Catalogue(table, token, State(from_before=True))


def content_of(table: pa.Table, state: State) -> bytes:
    """Return the file that holds these rows and this state."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({STATE: _written(state)}), buffer, compression="zstd")
    return buffer.getvalue()


def _written(state: State) -> str:
    editors = {
        name: {**asdict(editor), "publications": _packed(editor.publications)} for name, editor in state.editors.items()
    }
    return json.dumps({"format": FORMAT, **asdict(state), "editors": editors, "owed": _packed(state.owed)})


def _state(written: bytes, store: Store) -> State:
    try:
        fields = json.loads(written)
        if fields.pop("format") > FORMAT:
            raise RequestError(f"{store.uri} was written by a newer packshot: use that one.")
        editors = {
            name: Editor(
                **{**each, "owner": Owner(**each["owner"]), "publications": _unpacked(each["publications"])},
            )
            for name, each in fields.pop("editors").items()
        }
        return State(**{**fields, "editors": editors, "owed": _unpacked(fields.pop("owed"))})
    except RequestError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
        raise UnreadableCatalogue(
            f"The state in the metadata of {store.uri_of(PATH)} can't be read: write the catalogue anew with packshot "
            f"rebuild --store {store.uri}."
        ) from error


def _packed(publications: Sequence[Publication]) -> str:
    """Write publications down in little room: there may be a million of them, in every reader's way."""
    if not publications:
        return ""
    lines = "\n".join(f"{one.layers} {one.path}" for one in publications)
    return base64.b64encode(zlib.compress(lines.encode())).decode()


def _unpacked(packed: str) -> tuple[Publication, ...]:
    if not packed:
        return ()
    lines = (line.partition(" ") for line in zlib.decompress(base64.b64decode(packed)).decode().split("\n"))
    return tuple(Publication(path, int(layers)) for layers, _, path in lines)


def check_carried(catalogue: Catalogue, carried: pa.Schema, manifest: str) -> None:
    """Refuse a manifest whose carried columns can't stand in one table with the catalogue's.

    Raises:
        RequestError: naming the column and both types.
    """
    for column in carried:
        if column.name in catalogue.table.schema.names:
            before = catalogue.table.schema.field(column.name).type
            try:
                pa.unify_schemas(
                    [pa.schema([pa.field("c", before)]), pa.schema([pa.field("c", column.type)])],
                    promote_options="permissive",
                )
            except pa.ArrowException as error:
                raise RequestError(
                    f"The column {column.name!r} of {manifest} holds {column.type}, but {before} in the store's "
                    "catalogue; give it one type, or use another store."
                ) from error


def with_rows(table: pa.Table, rows: Mapping[int, dict[str, Any]]) -> pa.Table:
    """Return the table with other rows at these places."""
    if not rows:
        return table
    changed = pa.Table.from_pylist([*rows.values()], schema=table.schema)
    order = np.arange(table.num_rows)
    order[[*rows]] = table.num_rows + np.arange(len(rows))
    return pa.concat_tables([table, changed]).take(pa.array(order))

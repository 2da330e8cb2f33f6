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
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.catalogue.id_index import IdIndex
from tasks.errors import RequestError
from tasks.ledger.decision import text_of
from tasks.ledger.plan import Known
from tasks.manifests.column_types import Lossy, cast, holding
from tasks.manifests.manifest import Manifest
from tasks.outcome import ADDED, CATALOGUE_SCHEMA, RENAMED, widened
from tasks.processes.process import Owner
from tasks.results.publication import Publication
from tasks.stores.store import Store

PATH = "catalog.parquet"
STATE = b"packshot"  # the key of the state in the file's metadata
OURS = frozenset(CATALOGUE_SCHEMA.names)  # the columns that no manifest carries
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

    @cached_property
    def _places(self) -> IdIndex:
        return IdIndex(self.table.column("id"))

    @cached_property
    def _known(self) -> pa.Table:
        """What is known of rows, each column in one piece: rows would be taken from a copy of more pieces each time."""
        return self.table.select(KNOWN_COLUMNS).combine_chunks()

    @cached_property
    def _waiting(self) -> dict[int, dict[str, Any]]:
        """The text of each row that waits for a person, and for which concepts, by the row's place."""
        waits = pc.fill_null(pc.equal(self.table.column("reason"), Reason.REVIEW), False)
        rows = outcomes_in(self.table.filter(waits))
        places = pc.indices_nonzero(waits).to_pylist()
        return {
            place: {"text": text_of(row), "asks": tuple(name for name, _ in row["asks"] or ())}
            for place, row in zip(places, rows, strict=True)
        }

    def known(self, ids: Sequence[str]) -> list[Known | None]:
        """Return what is known of these rows; None for a row that the catalogue doesn't have."""
        places = self._places.find(ids)
        columns = [column.take(places).to_pylist() for column in self._known.columns]
        return [
            None if place is None else Known(*values, **self._waiting.get(place, {}))
            for place, *values in zip(places.to_pylist(), *columns, strict=True)
        ]

    def part(self, plan: pa.Table) -> pa.Table:
        """Return the rows that a plan is about, in plan order."""
        places = pc.index_in(plan.column("id"), value_set=self.table.column("id").combine_chunks())
        return self.table.take(places.drop_null())

    def bytes_a_row(self) -> float | None:
        """Return the mean room that a row's master takes, in bytes; None when nothing is stored yet.

        Of layers the catalogue knows the size of the composite alone: the source and each layer count as much, and so
        does each picture that an edit was made from.
        """
        sizes = self.table.column("bytes")
        layers, sources = (
            pc.fill_null(pc.list_value_length(self.table.column(name)), 0) for name in ("layer_uris", "source_uris")
        )
        objects = pc.if_else(pc.greater(layers, 0), pc.add(layers, 2), pc.add(sources, 1))
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
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as error:  # the latter of a page that doesn't unpack
        raise UnreadableCatalogue(
            f"{store.uri_of(PATH)} is not a Parquet file that can be read",
            f"write the catalogue anew with packshot rebuild --store {store.uri}.",
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
            raise RequestError(f"{store.uri} was written by a newer packshot", "use that one.")
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
            f"The state in the metadata of {store.uri_of(PATH)} can't be read",
            f"write the catalogue anew with packshot rebuild --store {store.uri}.",
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


def check_carried(catalogue: Catalogue, manifest: Manifest) -> None:
    """Refuse a manifest whose carried columns can't stand in one table with the catalogue's without loss.

    Raises:
        RequestError: naming the column and both types.
    """
    for column in manifest.carried:
        if column.name not in catalogue.table.schema.names:
            continue
        before = catalogue.table.column(column.name)
        if not any(_both_fit(before, manifest, column.name, kind) for kind in holding([before.type, column.type])):
            raise RequestError(
                f"The column {column.name!r} of {manifest.name} holds {column.type}, but {before.type} in the store's "
                "catalogue, and no type holds the values of both without loss; give it one type, or another name, or "
                "use another store."
            )


def _both_fit(before: pa.ChunkedArray, manifest: Manifest, name: str, kind: pa.DataType) -> bool:
    try:
        cast(before, kind)
        if not manifest.schema.field(name).type.equals(kind):
            for piece in manifest.column(name):
                cast(piece, kind)
    except Lossy:
        return False
    return True


def outcomes_in(table: pa.Table) -> list[dict[str, Any]]:
    """Return what the catalogue itself says of rows, as Python values.

    What a manifest carried stays in Arrow: Python can't hold all of it, such as nanoseconds and years after 9999.
    """
    return table.select([name for name in table.schema.names if name in OURS]).to_pylist()  # type: ignore[no-any-return]


def with_rows(table: pa.Table, rows: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Return the table with other outcomes, as `outcomes_in` gives them, in the rows at these places."""
    if not rows:
        return table
    names = table.schema.names
    said = table.select([name for name in names if name in OURS])
    changed = pa.Table.from_pylist([*rows.values()], schema=said.schema)
    order = np.arange(table.num_rows)
    order[[*rows]] = table.num_rows + np.arange(len(rows))
    said = pa.concat_tables([said, changed]).take(pa.array(order))
    columns = {
        **dict(zip(names, table.columns, strict=True)),
        **dict(zip(said.schema.names, said.columns, strict=True)),
    }
    return pa.Table.from_arrays([*columns.values()], schema=table.schema)

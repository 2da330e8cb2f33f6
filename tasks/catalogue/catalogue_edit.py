"""Editing the catalogue, so that no order of any actors' steps loses a picture or leaves `done` without its object.

    with CatalogueEdit(store, "review") as edit:
        for before in edit.tries():  # the catalogue as it is, anew for as long as somebody else is first
            edit.commit(before, …)  # its rows as they shall be
    edit.after  # the catalogue as it is then

1. Rows that shall be done and aren't published get publications under `name`, which nobody else was ever given. Which
   ones is written into the catalogue's state first, so that whoever comes after a killed process can take them away.
2. The masters are copied to their publications, and the copies checked. Then the rows are committed, by
   compare-and-swap. A commit names only publications that the version it replaces names, or that it has just made. When
   somebody else was first, everything is decided anew.
3. The publications that the commit dropped, and no other objects, are deleted. Until that is done they stand in the
   state, where the next editor finds them.

An editor that has died is struck from the state by the next one: from then on it couldn't commit any more, and what it
had published is owed to be deleted. One that was struck and lives, because a person was wrong about it, begins anew
under another name.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from safety.pictures.picture_file import EXTENSIONS
from tasks.catalogue.catalogue import PATH, Catalogue, Editor, State, content_of, outcomes_in, read_catalogue, with_rows
from tasks.errors import RequestError
from tasks.outcome import FailureReason, Status
from tasks.processes.process import Process, this_process
from tasks.results.from_before import find_master
from tasks.results.master import Master
from tasks.results.publication import (
    PUBLISHED,
    Publication,
    addresses,
    publication_of,
    publications_in,
    publish,
    withdraw,
)
from tasks.results.shelf import addressed
from tasks.stores.store import Changed, Store, StoreError

PRUNING = "prune"
TOGETHER = 4096  # publications that are made or deleted before the next ones are thought of
LONGEST_PAUSE = 2.0  # seconds between two tries to commit


@dataclass
class CatalogueEdit:
    """One process's part in the editing of a catalogue: it may come in early, commits once, and leaves.

    As a context it leaves where something goes wrong in it, and what went wrong is raised.
    """

    store: Store
    doing: str  # for people: "run 0123456789ab", "review"
    process: Process = field(default_factory=this_process)
    name: str = ""  # P: given when it comes in
    from_before: bool = False  # what it commits may have been stored before there were masters
    pruned: int = 0  # the version in which the store was pruned last, when this came in
    committed_as: int = 0  # the catalogue's version that has what was to be committed
    _made: set[Publication] = field(default_factory=set)
    _found_dead: bool = False  # when the catalogue was read last: there is something to write, whoever changes nothing
    _lacking: dict[str, str] = field(
        default_factory=dict
    )  # sentences, by the key of a master that isn't there or whole
    _after: Catalogue | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(StoreError, RequestError):
                self.leave()

    @property
    def after(self) -> Catalogue:
        """The catalogue as it is since the commit."""
        assert self._after is not None
        return self._after

    def come_in(self, seen: Catalogue | None = None) -> str:
        """Stand in the catalogue's state from here on, so that nobody prunes what is being made; return the name.

        `seen` is the catalogue as it was read before, which spares reading it unless somebody has replaced it since.

        Raises:
            RequestError: if the store is being pruned.
        """
        self.name = self.process.new_name()  # known before it stands there, in case the answer to that gets lost
        for _ in self._tries():
            catalogue = self._read() if seen is None else self._without_dead(seen)
            seen = None
            self.pruned = catalogue.state.pruned
            if self.name in catalogue.state.editors:  # the answer to that did get lost
                break
            swapped = self._swap(catalogue, catalogue.table, self._with(catalogue.state, self.name, ()))
            if swapped is not None:
                self.pruned = swapped.state.pruned
                break
        return self.name

    def leave(self) -> None:
        """Stand there no more, without a commit; what was published under the name is taken away."""
        for _ in self._tries():
            if not self.name:
                return
            catalogue = self._read()
            if self.name not in catalogue.state.editors:
                self._begin_anew(catalogue)
                return
            swapped = self._swap(catalogue, catalogue.table, struck_from(catalogue.state, [self.name]))
            if swapped is not None:
                self.name = ""
                self._settle_debts(swapped)

    def tries(self) -> Iterator[Catalogue]:
        """Give the catalogue as it is, for a commit; anew until one has succeeded.

        Raises:
            StoreError: if the store is out of reach.
        """
        for _ in self._tries():
            catalogue = self._read()
            if self.name and self.name not in catalogue.state.editors:
                self._begin_anew(catalogue)
            yield catalogue
            if self._after is not None:
                return

    def commit(self, before: Catalogue, changed: pa.Table) -> None:
        """Try to change the rows of the catalogue, to publish what they call for, and to leave.

        Nothing is written where nothing is changed. A row that shall be done and has no master any more stays as it
        was, if that wasn't done; else it fails with a sentence. Where somebody else has changed the catalogue since, or
        a master isn't there, nothing is committed: everything is for the next try to decide.

        Args:
            before: the catalogue, as `tries` gave it.
            changed: its rows as they shall be; those that are changed have no `changed_in`. Where nothing is to be
                changed, its own table.

        Raises:
            RequestError: if the store is being pruned.
            StoreError: if the store is out of reach.
        """
        if changed is before.table and not (self.name or self._found_dead or before.state.owed):
            self._after, self.committed_as = before, before.state.version
            return
        name = self.name or self.process.new_name()
        rows, publications = self._addressed(before, _without(changed, self._lacking, before), name)
        announced = self._announced(before, name, publications)
        if announced is None:
            return
        if failed := self._publish(publications, before.state):
            self._lacking |= failed
            return
        committed = self._committed(announced, rows, named(changed) - named(rows))
        if committed is not None:
            self._after = self._settle_debts(committed)

    def _tries(self) -> Iterator[int]:
        """Count tries, with pauses between them that grow: of those that try at once, one always succeeds."""
        for tries in count():
            yield tries
            self.process.pause(random.uniform(0, min(0.02 * 2 ** min(tries, 10), LONGEST_PAUSE)))

    def _read(self) -> Catalogue:
        """Return the catalogue, without the editors that have died."""
        return self._without_dead(read_catalogue(self.store))

    def _without_dead(self, catalogue: Catalogue) -> Catalogue:
        others = ((name, editor) for name, editor in catalogue.state.editors.items() if name != self.name)
        dead = [name for name, editor in others if self.process.is_alive(editor.owner) is False]
        self._found_dead = bool(dead)
        return replace(catalogue, state=struck_from(catalogue.state, dead))

    def _with(self, state: State, name: str, publications: Sequence[Publication]) -> State:
        """Return the state in which this editor may have made these publications.

        Raises:
            RequestError: if somebody prunes the store.
        """
        for other, editor in state.editors.items():
            if other != name and PRUNING in (self.doing, editor.doing):
                raise RequestError(
                    f"{self.store.uri} is in use by {editor.sentence}: wait for it. If that process is dead, strike "
                    f"its entry: {strike_command(self.store, other)}"
                )
        since = state.editors[name].since if name in state.editors else f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        editor = Editor(self.doing, self.process.owner, since, tuple(publications))
        pruned = state.version + 1 if self.doing == PRUNING else state.pruned
        return replace(state, editors={**state.editors, name: editor}, pruned=pruned)

    def _begin_anew(self, catalogue: Catalogue) -> None:
        """Take away what this editor made and nobody can name any more, and forget the name.

        It stands in the state no more because somebody took it for dead, or because its commit succeeded, and the
        answer was lost.
        """
        self._each(lambda one: withdraw(self.store, one), self._made - named(catalogue.table))
        self._made.clear()
        self.name = ""

    def _addressed(self, catalogue: Catalogue, rows: pa.Table, name: str) -> tuple[pa.Table, list[Publication]]:
        """Return the rows with the addresses of their pictures, and the publications that these call for.

        A row that is done has that of a publication: one of the version that is replaced, if that has one of its key,
        else a new one. A row that isn't has no publication; its picture lies in its master.
        """
        uris = rows.column("uri").combine_chunks()
        done = pc.equal(rows.column("status"), Status.DONE)
        published = catalogue.table.filter(pc.equal(catalogue.table.column("status"), Status.DONE))
        is_named = pc.is_in(uris, value_set=published.column("uri").combine_chunks())
        shown = pc.fill_null(pc.match_substring_regex(uris, PUBLISHED.pattern), False)
        wanting = pc.or_(pc.and_not(done, is_named), pc.and_(pc.invert(done), pc.and_(shown, _touched(rows))))
        places = pc.indices_nonzero(wanting)
        if not len(places):
            return rows, []
        some = rows.select(["key", "status", "layer_uris", "format"]).take(places).to_pylist()
        again = pc.index_in(rows.column("key").take(places), value_set=published.column("key").combine_chunks())
        before = published.select(["uri", "layer_uris"]).take(again).to_pylist()
        calls: dict[Publication, None] = {}
        found: list[tuple[str | None, list[str]]] = []
        for row, known in zip(some, before, strict=True):
            extension, layers = EXTENSIONS[row["format"] or "png"][0], len(row["layer_uris"] or ())
            one = publication_of(row["key"], name, extension=extension, layers=layers)
            if row["status"] != Status.DONE:
                found.append(self._master_address(one, catalogue.state))
            elif known["uri"] is not None:
                found.append((known["uri"], known["layer_uris"] or []))
            else:
                calls[one] = None
                found.append(addresses(self.store, one))
        return _with_addresses(rows, places, found), [*calls]

    def _master_address(self, publication: Publication, state: State) -> tuple[str | None, list[str]]:
        """Return where what was published lies, or would; nothing of it is published any more."""
        try:
            master = self._master(publication, state)
        except ValueError:
            return None, []
        said = addressed(self.store, master) if master else {"uri": None, "layer_uris": []}
        return said["uri"], said["layer_uris"]

    def _master(self, publication: Publication, state: State) -> Master | None:
        extension = publication.path.rpartition(".")[2]
        return find_master(
            self.store,
            publication.key,
            extension=extension,
            layered=bool(publication.layers),
            from_before=state.from_before or self.from_before,
        )

    def _announced(self, catalogue: Catalogue, name: str, publications: Sequence[Publication]) -> Catalogue | None:
        """Return the catalogue whose state says that these publications may be made; None if somebody was first."""
        editor = catalogue.state.editors.get(name)
        known = editor.publications if editor else ()
        if not publications or set(known).issuperset(publications):
            return catalogue
        together = dict.fromkeys([*known, *publications])
        self.name = name
        return self._swap(catalogue, catalogue.table, self._with(catalogue.state, name, [*together]))

    def _publish(self, publications: Sequence[Publication], state: State) -> dict[str, str]:
        """Make publications; return why some can't be made, by key."""
        to_do = [one for one in publications if one not in self._made]
        self._made.update(to_do)
        failed: dict[str, str] = {}

        def make(publication: Publication) -> None:
            try:
                master = self._master(publication, state)
                if master is None:
                    failed[publication.key] = "Its picture isn't in the store any more: --retry failed makes it again."
                else:
                    publish(self.store, master, publication)
            except ValueError as error:
                failed[publication.key] = str(error)

        self._each(make, to_do)
        return failed

    def _committed(self, catalogue: Catalogue, rows: pa.Table, strays: set[Publication]) -> Catalogue | None:
        """Return the catalogue with these rows, without this editor; None if somebody was first.

        `strays` are publications of before that a ledger names, and no row of the catalogue ever did.
        """
        dropped = (named(catalogue.table) | self._made | strays) - named(rows)
        editors = {name: editor for name, editor in catalogue.state.editors.items() if name != self.name}
        owed = dict.fromkeys([*catalogue.state.owed, *sorted(dropped, key=lambda one: one.path)])
        state = replace(catalogue.state, editors=editors, owed=tuple(owed))
        version = pa.scalar(catalogue.state.version + 1, pa.int64())
        place = rows.schema.get_field_index("changed_in")
        rows = rows.set_column(place, rows.schema.field(place), pc.fill_null(rows.column(place), version))
        committed = self._swap(catalogue, rows, state)
        if committed is not None:
            self.name, self.committed_as = "", committed.state.version
            self._made.clear()
        return committed

    def _settle_debts(self, catalogue: Catalogue) -> Catalogue:
        """Delete what is owed, and say so in the state; return the catalogue as it is then."""
        while owed := set(catalogue.state.owed):
            self._each(lambda one: withdraw(self.store, one), owed)
            for _ in self._tries():
                left = tuple(one for one in catalogue.state.owed if one not in owed)
                swapped = self._swap(catalogue, catalogue.table, replace(catalogue.state, owed=left))
                if swapped is not None:
                    return swapped
                catalogue = read_catalogue(self.store)
                if owed.isdisjoint(catalogue.state.owed):
                    return catalogue
        return catalogue

    def _swap(self, catalogue: Catalogue, rows: pa.Table, state: State) -> Catalogue | None:
        """Replace the catalogue by these rows and this state; None if somebody else has replaced it since."""
        old = state.from_before or self.from_before
        state = replace(state, version=catalogue.state.version + 1, from_before=old)
        content = content_of(rows, state)
        try:
            token = self.store.replace(PATH, content, expect=catalogue.token)
        except Changed:
            return None
        return Catalogue(rows, token, state)

    def _each(self, do: Callable[[Publication], object], publications: Iterable[Publication]) -> None:
        """Do something to many publications side by side, in an order that is always the same."""
        left = iter(sorted(publications, key=lambda one: one.path))
        with self.process.threads() as pool:
            while some := list(islice(left, TOGETHER)):
                list(pool.map(do, some))


def tidy(store: Store, catalogue: Catalogue, process: Process) -> Catalogue:
    """Take away what killed processes left, if a catalogue says that there is something; change no row.

    Returns the catalogue as it is then.
    """
    dead = any(process.is_alive(editor.owner) is False for editor in catalogue.state.editors.values())
    if dead or catalogue.state.owed:
        with CatalogueEdit(store, "tidying up", process) as edit:
            for before in edit.tries():
                edit.commit(before, before.table)
        return edit.after
    return catalogue


def perhaps_dead(state: State, process: Process) -> dict[str, str]:
    """Return who edits a store on another machine, where nobody here can tell whether they live: sentences by name."""
    return {
        name: f"{editor.sentence} is at work on this store, or was when it died."
        for name, editor in state.editors.items()
        if process.is_alive(editor.owner) is None
    }


def strike_command(store: Store, name: str) -> str:
    """Return the command that strikes a dead editor."""
    return f"packshot prune --store {store.uri} --strike {name}"


def living(state: State, process: Process) -> list[tuple[str, Editor]]:
    """Return the editors that live, or of which nobody on this machine can tell."""
    return [(name, editor) for name, editor in state.editors.items() if process.is_alive(editor.owner) is not False]


def struck_from(state: State, names: Sequence[str]) -> State:
    """Return the state without these editors: what they may have published is owed to be deleted."""
    if not names:
        return state
    theirs = [one for name in names for one in state.editors[name].publications]
    editors = {name: editor for name, editor in state.editors.items() if name not in names}
    return replace(state, editors=editors, owed=tuple(dict.fromkeys([*state.owed, *theirs])))


def named(rows: pa.Table) -> set[Publication]:
    """Return the publications that rows name."""
    shown = rows.filter(pc.fill_null(pc.match_substring_regex(rows.column("uri"), PUBLISHED.pattern), False))
    counts = pc.list_value_length(shown.column("layer_uris")).to_pylist()
    return publications_in(shown.column("uri").to_pylist(), counts)


def _touched(rows: pa.Table) -> pa.ChunkedArray:
    return pc.is_null(rows.column("changed_in"))


def _with_addresses(rows: pa.Table, places: pa.Array, found: Sequence[tuple[str | None, list[str]]]) -> pa.Table:
    order = pa.array(range(rows.num_rows), pa.int64()).to_numpy().copy()
    order[places.to_numpy()] = rows.num_rows + pa.array(range(len(found)), pa.int64()).to_numpy()
    for name, values in (("uri", [uri for uri, _ in found]), ("layer_uris", [layers for _, layers in found])):
        place = rows.schema.get_field_index(name)
        new = pa.array(values, rows.schema.field(place).type)
        column = pa.chunked_array([*rows.column(place).chunks, new]).take(pa.array(order))
        rows = rows.set_column(place, rows.schema.field(place), column)
    return rows


def _without(rows: pa.Table, lacking: dict[str, str], catalogue: Catalogue) -> pa.Table:
    """Return the rows, but for those that shall be done and have no master that can be published."""
    if not lacking:
        return rows
    keys = pa.array(lacking, pa.string())
    done = pc.equal(rows.column("status"), Status.DONE)
    places = pc.indices_nonzero(pc.and_(done, pc.is_in(rows.column("key"), value_set=keys))).to_pylist()
    ids = rows.column("id").take(pa.array(places, pa.int64()))
    before = pc.index_in(ids, value_set=catalogue.table.column("id").combine_chunks()).to_pylist()
    changes = {}
    for place, known in zip(places, before, strict=True):
        (row,) = outcomes_in(rows.slice(place, 1))
        if known is not None:
            (old,) = outcomes_in(catalogue.table.slice(known, 1))
            if old["key"] == row["key"]:
                if old["status"] != Status.DONE:
                    changes[place] = {**row, **{name: old[name] for name in old if name in OUTCOME}}
                continue
        changes[place] = row | {
            "status": Status.FAILED,
            "reason": FailureReason.UNREADABLE,
            "message": lacking[row["key"]],
            "retryable": True,
            "uri": None,
            "layer_uris": [],
        }
    return with_rows(rows, changes)


OUTCOME = (
    *("status", "reason", "message", "retryable", "uri", "layer_uris", "asks", "reviewed_by", "reviewed_at"),
    *("finished_at", "changed_in"),
)
"""What a row keeps of its outcome where its picture can't be published."""

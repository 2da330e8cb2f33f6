"""Prune: what nothing refers to any more, by age: masters, source pictures, runs, and publications that nobody names.

Nobody may run meanwhile: a run makes masters long before the catalogue names them. So a prune stands in the catalogue's
state, where it finds whoever else does, and whoever comes finds it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.catalogue import Catalogue, read_catalogue, with_rows
from tasks.edit import PRUNING, Edit, named
from tasks.master import COMPOSITE, Masters
from tasks.outcome import Retry
from tasks.process import Process, this_process
from tasks.request import RequestError
from tasks.store import Listed, Store

KEPT_FOR = timedelta(days=30)


@dataclass
class Pruned:
    """What was deleted, or would be: objects by what they are."""

    masters: list[Listed] = field(default_factory=list)
    sources: list[Listed] = field(default_factory=list)
    runs: list[Listed] = field(default_factory=list)
    publications: list[Listed] = field(default_factory=list)

    def groups(self) -> Iterator[list[Listed]]:
        """Give everything in the order in which it is deleted: what is left of a master without its record is none."""
        yield self.publications
        yield [one for one in self.masters if one.path.endswith(".json")]
        yield [one for one in self.masters if not one.path.endswith(".json")]
        yield self.sources
        yield self.runs


def prune(
    store: Store,
    *,
    kept_for: timedelta = KEPT_FOR,
    statuses: frozenset[Retry] = frozenset(),
    dry_run: bool = False,
    process: Process | None = None,
) -> Pruned:
    """Delete what nothing refers to and is older than `kept_for`.

    Args:
        statuses: of rows whose masters are deleted, too, so that a new policy would have to make them anew. What waits
            for a person is kept all the same.
        dry_run: only say what would be deleted.

    Raises:
        RequestError: if a run, a review or another prune is under way; the message says how to strike a dead one.
        StoreError: if the store is out of reach.
    """
    process = process or this_process()
    if dry_run:
        with process.threads() as pool:
            return _found(store, read_catalogue(store), kept_for, statuses, pool)
    edit = Edit(store, PRUNING, process)
    edit.come_in()
    try:
        with process.threads() as pool:
            found = _found(store, read_catalogue(store), kept_for, statuses, pool)
            for group in found.groups():
                list(pool.map(lambda one: store.delete(one.path), group))
            left = set(_by(store.listing("masters"), _master_key))
        edit.commit(lambda before: _without_addresses(before.table, left))
    finally:
        edit.leave()
    return found


def strike(store: Store, name: str, process: Process | None = None) -> str:
    """Strike an editor whose process is dead, as a person knows; return who it was.

    Raises:
        RequestError: if nobody of that name is there.
    """
    editors = read_catalogue(store).state.editors
    if name not in editors:
        there = "; ".join(f"{other}: {editor.sentence}" for other, editor in editors.items()) or "nobody"
        raise RequestError(f"No process called {name} edits {store.uri}. There is {there}.")
    Edit(store, PRUNING, process or this_process(), name).leave()
    return editors[name].sentence


def leftovers(store: Store, listed: Iterable[Listed]) -> list[Listed]:
    """Return those of these publications that neither a row nor an editor of the catalogue has.

    They must have been listed before: whoever makes others since then has said so in the catalogue.
    """
    catalogue = read_catalogue(store)
    state = catalogue.state
    editors = [one for editor in state.editors.values() for one in editor.publications]
    known = {one.path for one in (*named(catalogue.table), *editors)}
    return [one for one in listed if _whole(one.path) not in known]


def published(store: Store) -> list[Listed]:
    """List all publications, and what was refused before there were masters."""
    return [one for place in ("images", "layers", "quarantine") for one in store.listing(place)]


def _found(
    store: Store, catalogue: Catalogue, kept_for: timedelta, statuses: frozenset[Retry], pool: Executor
) -> Pruned:
    before = datetime.now(UTC) - kept_for
    runs = _by(store.listing("runs"), lambda path: path.split("/")[1])
    of_rows = set(pc.unique(catalogue.table.column("run")).to_pylist())
    old = {run for run, objects in runs.items() if run not in of_rows and all(one.modified < before for one in objects)}
    unfinished = [
        run
        for run, objects in runs.items()
        if run not in old and not any(one.path.endswith("/summary.json") for one in objects)
    ]
    plans = [plan for plan in pool.map(lambda run: _plan(store, run), unfinished) if plan is not None]
    keys, sources = ({value for plan in plans for value in plan.column(name).to_pylist()} for name in ("key", "source"))
    keys |= set(_referred(catalogue.table, statuses).to_pylist())

    pruned = Pruned(runs=[one for run in sorted(old) for one in runs[run]])
    listed = published(store)
    pruned.publications = [one for one in leftovers(store, listed) if one.modified < before and _is_nobodys(one, keys)]
    pruned.sources = [
        one for one in store.listing("sources") if one.modified < before and one.path.rpartition("/")[2] not in sources
    ]
    masters = _by(store.listing("masters"), _master_key)
    stray = pool.map(lambda key: _strays(store, key, masters[key]) if key in keys else masters[key], masters)
    for objects in stray:
        if all(one.modified < before for one in objects):
            pruned.masters += objects
    return pruned


def _is_nobodys(listed: Listed, keys: set[str]) -> bool:
    """Whether a publication is no row's only picture: from before there were masters, quarantine may hold that."""
    key = listed.path.split("/")[2].partition(".")[0]
    return not listed.path.startswith("quarantine/") or key not in keys


def _referred(table: pa.Table, statuses: frozenset[Retry]) -> pa.ChunkedArray:
    """The keys of rows whose masters are to stay."""
    given = pc.is_in(table.column("status"), value_set=pa.array([*statuses], pa.string()))
    waits = pc.fill_null(pc.equal(table.column("reason"), Reason.REVIEW), False)
    return pc.unique(table.column("key").filter(pc.or_(pc.invert(given), waits)))


def _strays(store: Store, key: str, objects: list[Listed]) -> list[Listed]:
    """Objects of a key that its master's record doesn't name: somebody who was second was killed."""
    try:
        master = Masters(store).find(key)
    except ValueError:
        return []
    if master is None:
        return []
    parts = {part.path for part in master.parts.values()}
    return [one for one in objects if one.path not in parts and not one.path.endswith(f"{key}.json")]


def _without_addresses(table: pa.Table, masters: set[str]) -> pa.Table:
    """The catalogue's rows; those whose master was deleted have no address any more."""
    has_master = pc.is_in(table.column("key"), value_set=pa.array(masters, pa.string()))
    lies_there = pc.fill_null(pc.match_substring(table.column("uri"), "/masters/"), False)
    places = pc.indices_nonzero(pc.and_not(lies_there, has_master)).to_pylist()
    rows = table.take(pa.array(places, pa.int64())).to_pylist()
    nowhere: dict[str, Any] = {"uri": None, "layer_uris": [], "changed_in": None}
    return with_rows(table, {place: row | nowhere for place, row in zip(places, rows, strict=True)})


def _master_key(path: str) -> str:
    return path.split("/")[2].removesuffix(".json")


def _plan(store: Store, run: str) -> pa.Table | None:
    found = store.read(f"runs/{run}/plan.parquet")
    return None if found is None else pq.read_table(io.BytesIO(found[0]), columns=["key", "source"])


def _by(listed: Iterable[Listed], name: Callable[[str], str]) -> dict[str, list[Listed]]:
    groups: dict[str, list[Listed]] = {}
    for one in listed:
        groups.setdefault(name(one.path), []).append(one)
    return groups


def _whole(path: str) -> str:
    """The path that the catalogue names of a publication that an object belongs to."""
    parts = path.split("/")
    return path if len(parts) == 3 else "/".join([*parts[:3], COMPOSITE])

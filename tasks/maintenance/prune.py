"""Prune: what nothing refers to any more, by age: masters, source pictures, runs, and publications that nobody names.

Nobody may run meanwhile: a run makes masters long before the catalogue names them. So a prune stands in the catalogue's
state, where it finds whoever else does, and whoever comes finds it. What keeps what:

- A row keeps the master of its key, and the runs of the command that settled it.
- A run that hasn't ended keeps the masters and the source pictures of its plan's rows.
- A row that left its manifest keeps the run that withdrew it: nothing else says so when the catalogue gets lost.

Decisions are kept for ever, and so is whatever isn't called as packshot calls its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safety.verdict import Reason
from tasks.catalogue.catalogue import Catalogue, outcomes_in, read_catalogue, with_rows
from tasks.catalogue.catalogue_edit import PRUNING, CatalogueEdit, named
from tasks.catalogue.retire import SHOWABLE
from tasks.errors import RequestError
from tasks.ledger.plan import MASK, PLANNED_FROM, REFERENCES, sources_in
from tasks.ledger.run import Run
from tasks.outcome import Retry, Status
from tasks.processes.process import Process, this_process
from tasks.results.master import COMPOSITE, Masters
from tasks.stores.store import ListedObject, Store
from tasks.stores.stored_table import naming, read_table

KEPT_FOR = timedelta(days=30)
NEEDED = ("key", "source", REFERENCES, MASK)  # columns of a plan that say what its run needs
OURS = re.compile(r"(?:masters|images|layers|quarantine|sources)/([0-9a-f]{2})/(\1[0-9a-f]{62})(-[0-9a-f]+)?([./].+)?")
"""How an object is called that was made for a key, or that is the source picture of this hash."""
WHOLE_MASTER = 2  # objects of a picture's master: there can't be a stray one beside them
LAST_OF_RUN = ("plan.parquet", "job.json", "summary.json")


@dataclass
class Pruned:
    """What was deleted, or would be: objects by what they are."""

    masters: list[ListedObject] = field(default_factory=list)
    sources: list[ListedObject] = field(default_factory=list)
    runs: list[ListedObject] = field(default_factory=list)
    publications: list[ListedObject] = field(default_factory=list)

    def groups(self) -> Iterator[list[ListedObject]]:
        """Give everything in the order in which it is deleted, so that what is left of it misleads nobody.

        What is left of a master without its record is none. A run without its shards is one that does them again, one
        without its plan is planned anew, and a complete one stays complete until all else of it is gone.
        """
        yield self.publications
        yield [one for one in self.masters if one.path.endswith(".json")]
        yield [one for one in self.masters if not one.path.endswith(".json")]
        yield self.sources
        yield [one for one in self.runs if not one.path.endswith(LAST_OF_RUN)]
        for name in LAST_OF_RUN:
            yield [one for one in self.runs if one.path.endswith(name)]


@dataclass(frozen=True)
class Age:
    """From when on something counts as old."""

    before: datetime
    before_of_unfinished: datetime  # of a run that may still be gone on with

    @classmethod
    def of(cls, kept_for: timedelta) -> Age:
        now = datetime.now(UTC)
        return cls(now - kept_for, now - max(kept_for, KEPT_FOR))


def prune(
    store: Store,
    *,
    kept_for: timedelta = KEPT_FOR,
    statuses: frozenset[Retry] = frozenset(),
    dry_run: bool = False,
    process: Process | None = None,
) -> Pruned:
    """Delete what nothing refers to and is older than `kept_for`; of a run that hasn't ended, than 30 days at least.

    Args:
        statuses: of rows whose masters are deleted, too, so that a new policy would have to make them anew. What may
            be published as it is one day is kept all the same: what waits for a person, what repeats another row's
            picture, and what couldn't be judged.
        dry_run: only say what would be deleted.

    Raises:
        RequestError: if a run, a review or another prune is under way; the message says how to strike a dead one. Or if
            the catalogue is gone, or was lost and begun anew.
        StoreError: if the store is out of reach.
    """
    process = process or this_process()
    catalogue = read_catalogue(store)
    if catalogue.token is None:  # to somebody without a catalogue, nothing refers to anything
        raise RequestError(
            f"There is no catalogue in {store.uri}. If it was lost, write it anew: packshot rebuild --store {store.uri}"
        )
    if dry_run:
        with process.threads() as pool:
            return _found(store, catalogue, Age.of(kept_for), statuses, pool)
    with CatalogueEdit(store, PRUNING, process) as edit:
        edit.come_in()
        with process.threads() as pool:
            catalogue = read_catalogue(store)
            found = _found(store, catalogue, Age.of(kept_for), statuses, pool)
            for group in found.groups():
                list(pool.map(lambda one: store.delete(one.path), group))
            left = {place: set(_by(store.listing(place), key_of)) for place in ("masters", "quarantine")}
        for before in edit.tries():
            edit.commit(before, _without_addresses(before.table, left))
    return found


def strike(store: Store, name: str, process: Process | None = None) -> str:
    """Strike an editor whose process is dead, as a person knows; return who it was.

    Raises:
        RequestError: if nobody of that name is there, or it is a process of this machine that lives.
    """
    process = process or this_process()
    editors = read_catalogue(store).state.editors
    if name not in editors:
        there = "; ".join(f"{other}: {editor.sentence}" for other, editor in editors.items()) or "nobody"
        raise RequestError(f"No process called {name} edits {store.uri}. There is {there}.")
    if process.is_alive(editors[name].owner):
        raise RequestError(f"{editors[name].sentence} is alive: end it, or wait for it.")
    CatalogueEdit(store, PRUNING, process, name).leave()
    return editors[name].sentence


def leftovers(store: Store, listed: Iterable[ListedObject]) -> list[ListedObject]:
    """Return those of these publications that neither a row nor an editor of the catalogue has.

    They must have been listed before: whoever makes others since then has said so in the catalogue.
    """
    catalogue = read_catalogue(store)
    state = catalogue.state
    editors = [one for editor in state.editors.values() for one in editor.publications]
    known = {one.path for one in (*named(catalogue.table), *editors)}
    return [one for one in listed if _whole(one.path) not in known]


def published(store: Store) -> list[ListedObject]:
    """List all publications, and what was refused before there were masters."""
    listed = (one for place in ("images", "layers", "quarantine") for one in store.listing(place))
    return [one for one in listed if OURS.fullmatch(one.path)]


def has_no_name_of_its_own(path: str) -> bool:
    """Say whether a publication was made before names were used once: it may be all that there is of its key."""
    match = OURS.fullmatch(path)
    return match is not None and match[3] is None


def _found(store: Store, catalogue: Catalogue, age: Age, statuses: frozenset[Retry], pool: Executor) -> Pruned:
    runs = _by(store.listing("runs"), _run)
    old = _old_runs(store, catalogue, runs, age, pool)
    plans = [
        plan
        for plan in pool.map(lambda run: _plan(store, run), (run for run in runs if not _ended(runs[run])))
        if plan is not None
    ]
    keys = {key for plan in plans for key in plan.column("key").to_pylist()}
    sources = {source for plan in plans for source in sources_in(plan)}
    keys |= set(pc.unique(catalogue.table.filter(_keeps(catalogue.table, statuses)).column("key")).to_pylist())

    pruned = Pruned(runs=[one for run in sorted(old) for one in runs[run]])
    listed = published(store)
    nameless = [one for one in listed if has_no_name_of_its_own(one.path) and key_of(one.path) not in keys]
    named_once = [one for one in leftovers(store, listed) if not has_no_name_of_its_own(one.path)]
    pruned.publications = [one for one in (*nameless, *named_once) if one.modified < age.before]
    pruned.sources = [
        one
        for one in store.listing("sources")
        if one.modified < age.before and key_of(one.path) not in {*sources, None}
    ]
    masters = _by(store.listing("masters"), key_of)
    stray = pool.map(lambda key: _strays(store, key, masters[key]) if key in keys else masters[key], masters)
    for objects in stray:
        if all(one.modified < age.before for one in objects):
            pruned.masters += objects
    return pruned


def _old_runs(
    store: Store, catalogue: Catalogue, runs: dict[str, list[ListedObject]], age: Age, pool: Executor
) -> list[str]:
    """Return the runs that go: those of a command go together, because it looks for them one after the other.

    Raises:
        RequestError: if one of them knew a newer catalogue than this one.
    """
    of_rows = {_command(run) for run in pc.unique(catalogue.table.column("run")).to_pylist()}
    commands: dict[str, list[str]] = {}
    for run in runs:
        commands.setdefault(_command(run), []).append(run)

    def is_old(run: str) -> bool:
        before = age.before if _ended(runs[run]) else age.before_of_unfinished
        return all(one.modified < before for one in runs[run])

    old = [command for command, its in commands.items() if command not in of_rows and all(map(is_old, its))]
    candidates = [run for command in old for run in commands[command]]
    retired = pc.fill_null(pc.equal(catalogue.table.column("reason"), Reason.RETIRED), False)
    withdrawn_from = set(pc.unique(catalogue.table.filter(retired).column("planned_from")).to_pylist())

    def withdrew_rows(run: str) -> bool:
        if not Run(run).document(store, "job.json").get("retire_missing"):
            return False
        plan = _plan(store, run)
        said = None if plan is None else (plan.schema.metadata or {}).get(PLANNED_FROM)
        return said is not None and int(said) in withdrawn_from

    def version(run: str) -> int:
        return int(Run(run).document(store, "summary.json").get("catalogue_version") or 0)

    if max(pool.map(version, candidates), default=0) > catalogue.state.version:
        raise RequestError(
            f"The catalogue of {store.uri} is older than what its runs say: it was lost, and begun anew. Put the rows "
            f"that it lacks into it first: packshot rebuild --store {store.uri}"
        )
    kept = {_command(run) for run, its in zip(candidates, pool.map(withdrew_rows, candidates), strict=True) if its}
    return [run for run in candidates if _command(run) not in kept]


def _keeps(table: pa.Table, statuses: frozenset[Retry]) -> pa.ChunkedArray:
    """Return a mask of the rows that keep their masters."""
    given = pc.is_in(table.column("status"), value_set=pa.array([*statuses], pa.string()))
    showable = pc.is_in(table.column("reason"), value_set=pa.array(SHOWABLE, pa.string()))
    unjudged = pc.and_(table.column("retryable"), pc.not_equal(table.column("status"), Status.FAILED))
    return pc.or_(pc.invert(given), pc.or_(showable, unjudged))


def _strays(store: Store, key: str, objects: list[ListedObject]) -> list[ListedObject]:
    """Return objects of a key that its master's record doesn't name: somebody who was second was killed."""
    if len(objects) <= WHOLE_MASTER:
        return []
    try:
        master = Masters(store).find(key)
    except ValueError:
        return []
    if master is None:
        return []
    parts = {part.path for part in master.parts.values()}
    return [one for one in objects if one.path not in parts and not one.path.endswith(f"{key}.json")]


def _without_addresses(table: pa.Table, left: dict[str, set[str]]) -> pa.Table:
    """Return the catalogue's rows; those whose picture was deleted from where it lay have no address any more.

    Args:
        left: the keys of what is left in a place that isn't published.
    """
    gone = pa.chunked_array([pa.repeat(pa.scalar(False), table.num_rows)])
    for place, keys in left.items():
        where = rf"(^|/){place}/[0-9a-f]{{2}}/[0-9a-f]{{64}}[^0-9a-f]"
        lies_there = pc.fill_null(pc.match_substring_regex(table.column("uri"), where), False)
        is_there = pc.is_in(table.column("key"), value_set=pa.array(keys, pa.string()))
        gone = pc.or_(gone, pc.and_not(lies_there, is_there))
    gone = pc.and_(gone, pc.not_equal(table.column("status"), Status.DONE))
    places = pc.indices_nonzero(gone).to_pylist()
    rows = outcomes_in(table.take(pa.array(places, pa.int64())))
    nowhere: dict[str, Any] = {"uri": None, "layer_uris": [], "source_uris": [], "changed_in": None}
    return with_rows(table, {place: row | nowhere for place, row in zip(places, rows, strict=True)})


def _ended(objects: Iterable[ListedObject]) -> bool:
    return any(one.path.endswith("/summary.json") for one in objects)


def _plan(store: Store, run: str) -> pa.Table | None:
    path = Run(run).path("plan.parquet")
    found = store.read(path)
    remedy = "restore it, or remove the run; until then nobody knows what it needs"
    if found is None:
        return None
    with naming(store.uri_of(path), remedy):
        names = pq.read_schema(io.BytesIO(found[0])).names  # a packshot of before wrote fewer
    return read_table(found[0], store.uri_of(path), remedy, columns=[name for name in NEEDED if name in names])


def _by(listed: Iterable[ListedObject], name: Callable[[str], str | None]) -> dict[str, list[ListedObject]]:
    groups: dict[str, list[ListedObject]] = {}
    for one in listed:
        if (group := name(one.path)) is not None:
            groups.setdefault(group, []).append(one)
    return groups


def key_of(path: str) -> str | None:
    """Return the key that an object was made for; None of one that isn't packshot's."""
    match = OURS.fullmatch(path)
    return None if match is None else match[2]


def _run(path: str) -> str | None:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else None


def _command(run: str) -> str:
    """Return what the runs of a command share: see `tasks.ledger.run.runs_of`."""
    return run.partition(".")[0]


def _whole(path: str) -> str:
    """Return the path that the catalogue names of a publication that an object belongs to."""
    parts = path.split("/")
    return path if len(parts) == 3 else "/".join([*parts[:3], COMPOSITE])

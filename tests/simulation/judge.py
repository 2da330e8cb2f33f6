"""What must hold of a store at every step of every schedule, and at the end of each."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from tasks.catalogue.catalogue import PATH, read_catalogue
from tasks.errors import RequestError
from tasks.maintenance.prune import leftovers, published
from tasks.stores.store import StoreUnreachable

from .actors import Doing, Machine, Prune
from .memory_store import URI, Bucket, MemoryStore
from .schedule import NOTHING_GOES_WRONG, Actor, Choose, Limits, Play, play


class Wrong(AssertionError):  # noqa: N818
    """A promise was broken."""


@dataclass
class Watch:
    """Looks at a store after every step."""

    bucket: Bucket
    may_prune: bool
    _seen: str = ""  # the catalogue's token
    _promised: list[tuple[str, str, str]] = field(default_factory=list)  # of rows that are done: id, path, SHA-256
    _records: set[str] = field(default_factory=set)

    def __call__(self) -> None:
        objects = self.bucket.objects
        if (token := self.bucket.tokens.get(PATH, "")) != self._seen:
            self._seen = token
            self._promised = [*self._promises()]
        for row_id, path, sha256 in self._promised:
            if path not in objects:
                raise Wrong(f"{row_id} is done, and there is no object at {path}.")
            if digest(objects[path]) != sha256:
                raise Wrong(f"{row_id} is done, and {path} isn't its picture.")
        if not self.may_prune:
            records = {path for path in objects if path.startswith("masters/") and path.endswith(".json")}
            for record in records | self._records:
                if record not in objects:
                    raise Wrong(f"The master {record} is gone.")
                for part in json.loads(objects[record])["parts"].values():
                    if part["path"] not in objects or digest(objects[part["path"]]) != part["sha256"]:
                        raise Wrong(f"{part['path']} of the master {record} is gone or changed.")
            self._records = records

    def _promises(self) -> Iterable[tuple[str, str, str]]:
        content = self.bucket.objects.get(PATH)
        for row in rows_of(content) if content else ():
            if row["status"] == "done":
                yield row["id"], row["uri"].removeprefix(f"{URI}/"), row["sha256"]


def rows_of(content: bytes) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(content), columns=["id", "status", "uri", "sha256"]).to_pylist()


_digests: dict[bytes, str] = {}


def digest(content: bytes) -> str:
    """The SHA-256; contents are few, and asked for again and again."""
    if (found := _digests.get(content)) is None:
        found = _digests[content] = hashlib.sha256(content).hexdigest()
    return found


@dataclass
class Scene:
    """Commands that run at once, over what others have left."""

    before: Sequence[Doing]
    at_once: Sequence[Doing]
    limits: Limits = NOTHING_GOES_WRONG

    def __call__(self, choose: Choose) -> Play:
        """Play one schedule, and check what it leaves.

        Raises:
            Wrong: a promise was broken; the message has the schedule.
        """
        return self.opened()(choose)

    def opened(self) -> Callable[[Choose], Play]:
        """Play what comes before, once, for as many schedules as are wanted of the rest."""
        bucket, machine = Bucket(), Machine()
        for command in self.before:
            command(bucket, machine.process(command.name))
        return lambda choose: self._played(choose, bucket.copy(), Machine(machine.count))

    def _played(self, choose: Choose, bucket: Bucket, machine: Machine) -> Play:
        watch = Watch(bucket, any(isinstance(one, Prune) for one in (*self.before, *self.at_once)))
        processes = [machine.process(command.name) for command in self.at_once]
        works = zip(self.at_once, processes, strict=True)
        actors = [
            Actor(f"{number} {command.name}", partial(command, bucket, process))
            for number, (command, process) in enumerate(works)
        ]
        going = Play(actors, self.limits)

        def after_each() -> None:
            for actor, process in zip(actors, processes, strict=True):
                if actor.dead or actor.finished:
                    machine.ended.add(process.owner.pid)
            watch()

        try:
            play(going, choose, after_each=after_each)
            for actor in actors:
                if actor.error is not None and not isinstance(actor.error, StoreUnreachable | RequestError):
                    raise actor.error
            self._end(bucket, machine, actors)
            watch()
            check_end(bucket)
        except Exception as error:
            raise Wrong(f"{error}\n  " + "\n  ".join(going.log)) from error
        return going

    def _end(self, bucket: Bucket, machine: Machine, actors: Sequence[Actor]) -> None:
        """Give the commands again that didn't end by themselves."""
        for actor, command in zip(actors, self.at_once, strict=True):
            if actor.dead or actor.error is not None:
                with contextlib.suppress(RequestError):  # what was asked for may be nothing to ask for any more
                    command(bucket, machine.process(command.name))


def check_end(bucket: Bucket) -> None:
    """Every row once, nothing published but what the catalogue names, nothing owed, nobody in."""
    store = MemoryStore(bucket)
    catalogue = read_catalogue(store)
    ids = catalogue.table.column("id").to_pylist()
    if len(ids) != len(set(ids)):
        raise Wrong(f"Rows stand twice in the catalogue: {ids}.")
    if catalogue.state.owed or catalogue.state.editors:
        raise Wrong(f"The catalogue still has {catalogue.state}.")
    if left := [one.path for one in leftovers(store, published(store))]:
        raise Wrong(f"Nobody names {left}.")

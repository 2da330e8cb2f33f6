"""A run: where the plan, the ledger and the summary of one command lie in the store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.manifests.key import digest
from tasks.outcome import LEDGER, Outcome, ledger, outcome_table
from tasks.stores.store import Conflict, Store, at_once
from tasks.stores.stored_table import read_document, read_table

ASKED_AHEAD = 64  # shards


def run_name(manifest_digest: str, deciding: dict[str, Any], limit: int | None, retry: frozenset[str]) -> str:
    """Return the name that a command's runs share: the same manifest and job find the same runs."""
    return digest([manifest_digest, deciding, limit, sorted(retry)])[:12]


@dataclass(frozen=True)
class Run:
    """One run in a store. A command that finds its last run complete starts the next one: `name`, `name.2`, …"""

    id: str

    def path(self, file: str) -> str:
        """Return where a file of this run lies in the store."""
        return f"runs/{self.id}/{file}"

    def shard_path(self, shard: int) -> str:
        """Return where the ledger of a shard lies in the store."""
        return self.path(f"shards/{shard:05}.parquet")

    def lane_path(self, lane: int) -> str:
        """Return where it lies what a lane took of its device, beside what was predicted."""
        return self.path(f"lanes/{lane}.json")

    def is_complete(self, store: Store) -> bool:
        """Say whether every shard of this run ended and its summary was written."""
        return store.exists(self.path("summary.json"))

    def is_planned(self, store: Store) -> bool:
        """Say whether this run's plan was written."""
        return store.exists(self.path("plan.parquet"))

    def commit(self, store: Store, shard: int, outcomes: list[Outcome]) -> None:
        """Write a shard's ledger. Where another run of this command was first, its ledger stands."""
        buffer = io.BytesIO()
        pq.write_table(outcome_table(outcomes), buffer, compression="zstd")
        try:
            store.put_once(self.shard_path(shard), buffer.getvalue())
        except Conflict:
            return

    def left(self, store: Store, shards: Iterable[int], pool: Executor) -> Iterator[int]:
        """Give those of these shards that have no ledger yet; they are asked for side by side, a few ahead."""
        numbers = iter(shards)
        while some := list(islice(numbers, ASKED_AHEAD)):
            ended = pool.map(lambda shard: store.exists(self.shard_path(shard)), some)
            yield from (shard for shard, over in zip(some, ended, strict=True) if not over)

    @property
    def lanes_path(self) -> str:
        """Where it lies which lanes there were, where there was more than one in the run's own process."""
        return self.path("lanes/all.json")

    def all_lanes(self, store: Store) -> list[dict[str, Any]]:
        """Return the lanes that worked on it, with where they did: the one of its own process by its number alone."""
        told = "delete it; only where lanes worked is told by it"
        written = store.read(self.lanes_path)
        document = {} if written is None else read_document(written[0], store.uri_of(self.lanes_path), told)
        return document.get("lanes") or [{"lane": 0}]

    def lanes(self, store: Store) -> list[dict[str, Any]]:
        """Return what its lanes took and where they worked: see `models.memory.usage`.

        Of several, one that made nothing is there, too, without what it took.
        """
        told = "delete it; only what the lane took is told by it"

        def read(lane: dict[str, Any]) -> dict[str, Any]:
            path, known = self.lane_path(lane["lane"]), lane if "machine" in lane else {}
            written = store.read(path)
            return known if written is None else {**known, **read_document(written[0], store.uri_of(path), told)}

        return [lane for lane in at_once(read, self.all_lanes(store), most=ASKED_AHEAD) if lane]

    def document(self, store: Store, file: str) -> dict[str, Any]:
        """Return what `job.json` or `summary.json` says; nothing where it isn't there or can't be read."""
        found = store.read(self.path(file))
        try:
            said = {} if found is None else json.loads(found[0])
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def outcomes(self, store: Store, shards: int, pool: Executor) -> tuple[pa.Table, int]:
        """Return the ledgers of this run as one table, and how many of its shards have one."""
        tables = read_ledgers(store, [self.shard_path(shard) for shard in range(shards)], pool)
        return pa.concat_tables([LEDGER.empty_table(), *tables]), len(tables)


def read_ledgers(store: Store, paths: Sequence[str], pool: Executor) -> list[pa.Table]:
    """Read the ledgers that there are at these paths.

    Raises:
        StoreError: if one is damaged.
    """
    again = "delete it, and the command that wrote it does its shard again"
    found = zip(paths, pool.map(store.read, paths), strict=True)
    return [ledger(read_table(content[0], store.uri_of(path), again)) for path, content in found if content is not None]


def runs_of(name: str) -> Iterator[Run]:
    """Give the runs of a command, in the order in which it starts them."""
    yield Run(name)
    number = 2
    while True:
        yield Run(f"{name}.{number}")
        number += 1


def open_run(name: str, store: Store) -> tuple[Run, Run | None]:
    """Return the run to go on with or to start, and the complete one before it."""
    before = None
    for run in runs_of(name):
        if not run.is_complete(store):
            return run, before
        before = run
    raise AssertionError("runs_of doesn't end")


def write_json(store: Store, path: str, value: Any) -> None:
    """Write a JSON document, whole, over the one that was there."""
    store.overwrite(
        path, json.dumps(value, indent=2, ensure_ascii=False, default=str).encode(), content_type="application/json"
    )

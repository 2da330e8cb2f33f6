"""A shop whose commands are killed at any moment: runs under changing rules, answers, takedowns, one or two at once.

    shop = Shop("s3://bucket/store", folder, seed=0)
    for _ in range(20):
        shop.kill_some()    # start one or two commands, kill them, and look at the store
    shop.end()              # give a command again, and look at what is left

Commands are forked from a process that has imported everything, so that one takes a second and not ten. What they do
is the product's own: flows against a Prefect server, the miniature, a real store.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.catalogue.catalogue import read_catalogue
from tasks.maintenance.prune import leftovers, published
from tasks.results.master import Masters
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.forked import ForkedCommand, Forker, forked_source

ROAD = str(Path(__file__).parents[1] / "end_to_end" / "road.toml")
SMALL = {"width": 64, "height": 64, "steps": 2, "guidance": 1.0, "shard_rows": 3, "batch": 2}
RULES = {"lax": 32, "strict": 512}  # profiles: the shortest that a picture's longest side may be
ASKING = """
neutral = ["a mug"]
[[concepts]]
name = "seen"
sentence = "Somebody should see it."
phrases = ["a mug"]
answer = "review"
picture_threshold = -2.0
"""
ROWS = 6
FORGOTTEN_AFTER = 600.0  # seconds after which a command that hangs fails the test
PRELOADED = (
    "flows.generate",
    "tasks.review.decide",
    "tasks.stores.folder_store",
    "tasks.stores.s3_store",
    "tasks.kinds.generate.prompt_job",
    "tasks.kinds.generate.drawing",
    "tests.faults.killing",
    "prefect.flow_engine",
    "prefect.task_engine",
    "anyio._backends._asyncio",
)
"""What a command imports beside what all forked ones have already."""


class Wrong(AssertionError):  # noqa: N818
    """A promise was broken."""


def run(manifest: str, store: str, rules: dict[str, Any]) -> None:
    """One run of the flow, as a command starts it; called in a process of its own."""
    from flows.generate import generate
    from tasks.job import GenerateJob

    with quiet():
        generate(GenerateJob.of(manifest=manifest, store=store, device="cpu", **SMALL, **rules))


def answer(store: str, answer: str, seed: int) -> None:
    """Answer for a row that waits, or hold back one that is published; called in a process of its own."""
    from tasks.errors import RequestError
    from tasks.review.decide import decide, take_down, waiting

    rows = [row.id for row in waiting(store)]
    done = [row["id"] for row in read_catalogue(open_store(store)).table.to_pylist() if row["status"] == "done"]
    source = random.Random(seed)
    with quiet(), contextlib.suppress(RequestError):  # somebody else was quicker
        if answer == "hold" and done:
            take_down(store, [source.choice(done)], until_approved=True, by="Dan")
        elif answer != "hold" and rows:
            decide(store, [source.choice(rows)], answer, by="Ann")  # type: ignore[arg-type]


@functools.cache
def warmed() -> Forker:
    """The process that commands are forked from; its Prefect has the settings of when this was asked for first."""
    return Forker(PRELOADED, dict(os.environ))


def processes(place: Path) -> dict[psutil.Process, list[str]]:
    """Those that were started with that place for temporary files, and their commands."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended
            if process.environ().get("TMPDIR") == str(place) and process.status() != psutil.STATUS_ZOMBIE:
                found[process] = process.cmdline()
    return found


@contextlib.contextmanager
def quiet() -> Any:
    """Say nothing: a killed command's last words are nobody's."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


class Shop:
    """A store, the manifests and rules that commands are given, and what was found of them."""

    def __init__(self, uri: str, folder: Path, seed: int) -> None:
        """`folder` is for manifests and rules. A Prefect server must be named in PREFECT_API_URL."""
        self.uri, self.folder, self.random = uri, folder, random.Random(seed)
        self.count: Counter[str] = Counter()
        self._took: dict[str, float] = {}  # seconds of each kind of command that came to its end
        self._edition = 0
        self._forker = warmed()
        for name, side in RULES.items():
            (folder / f"{name}.toml").write_text(f"min_longest_side = {side}\n")
        (folder / "asking.toml").write_text(ASKING)
        self._write()

    @property
    def store(self) -> Store:
        return open_store(self.uri)

    def kill_some(self) -> int:
        """Start one command, or two at once, and kill each at some moment; return how many were killed."""
        started = [self._start() for _ in range(1 + (self.random.random() < 0.4))]
        moments = sorted(
            (begun + self.random.uniform(0, self._expected(kind)), child) for kind, begun, child in started
        )
        for moment, child in moments:
            with contextlib.suppress(TimeoutError):
                child.wait(max(0.0, moment - time.monotonic()))
            child.kill()
        for kind, begun, child in started:
            code = child.wait()
            if code == -signal.SIGKILL:
                self.count["killed"] += 1
                self.count[f"killed: {kind}"] += 1
            elif code == 0:
                self._ended(kind, begun)
            else:
                raise Wrong(f"A {kind} ended by itself with {code}.")
        self.look()
        return sum(child.returncode == -signal.SIGKILL for _, _, child in started)

    def end(self) -> None:
        """Give commands again until one has come to its end, and check that nothing is left of the killed ones."""
        kind, begun, child = self._start("lax")
        try:
            code = child.wait(FORGOTTEN_AFTER)
        except TimeoutError:
            child.kill()
            raise Wrong("The last run hangs.") from None
        if code != 0:
            raise Wrong(f"The last run ended with {code}.")
        self._ended(kind, begun)
        self.look()
        catalogue = read_catalogue(self.store)
        ids = sorted(catalogue.table.column("id").to_pylist())
        if ids != [f"row-{number}" for number in range(ROWS)]:
            raise Wrong(f"The catalogue has the rows {ids}.")
        if catalogue.state.owed or catalogue.state.editors:
            raise Wrong(f"The catalogue still has {catalogue.state}.")
        if left := [one.path for one in leftovers(self.store, published(self.store))]:
            raise Wrong(f"Nobody names {left}.")
        self.count["ends looked at"] += 1

    def look(self) -> None:
        """Check that every row that is done has its picture, whole, and every master all its objects."""
        store = self.store
        rows = read_catalogue(store).table.to_pylist() if store.exists("catalog.parquet") else []
        if len({row["id"] for row in rows}) != len(rows):
            raise Wrong("A row stands twice in the catalogue.")
        promised = [
            (row["id"], row["uri"].removeprefix(store.uri).lstrip("/"), row["sha256"])
            for row in rows
            if row["status"] == "done"
        ]
        for record in [one.path for one in store.listing("masters") if one.path.endswith(".json")]:
            master = Masters(store).find(record.rpartition("/")[2].removesuffix(".json"))
            if master is None:
                raise Wrong(f"The master {record} went away.")
            promised += [(record, part.path, part.sha256) for part in master.parts.values()]
        with ThreadPoolExecutor(8) as pool:
            for (what, path, sha256), found in zip(
                promised, pool.map(lambda one: store.read(one[1]), promised), strict=True
            ):
                if found is None:
                    raise Wrong(f"{what} promises {path}, and there is nothing.")
                if hashlib.sha256(found[0]).hexdigest() != sha256:
                    raise Wrong(f"{what} promises {path}, and something else is there.")
        self.count["objects looked at"] += len(promised)

    def _start(self, kind: str | None = None) -> tuple[str, float, ForkedCommand]:
        kinds = ["lax", "lax", "strict", "asking", "changed", "approve", "reject", "hold"]
        there = self.count["ended"] > 0
        kind = kind or self.random.choice(kinds if there else ["lax"])
        target: Any
        if kind in ("approve", "reject", "hold"):
            target, arguments = answer, (self.uri, kind, self.random.randrange(1 << 30))
        else:
            if kind == "changed":
                self._write()
            rules = {"policy": str(self.folder / "asking.toml") if kind == "asking" else ROAD}
            rules["profile"] = str(self.folder / f"{'strict' if kind == 'strict' else 'lax'}.toml")
            target, arguments = run, (str(self.folder / f"manifest-{self._edition}.parquet"), self.uri, rules)
        source = f"from tests.faults.killing import {target.__name__}; {target.__name__}(*{arguments!r})"
        with Path(os.devnull).open() as nothing:
            child = forked_source(source, [nothing.fileno(), 1, 2], dict(os.environ), self._forker)
        return kind, time.monotonic(), child

    def _write(self) -> None:
        """Write the next edition of the manifest, in which one row asks for another picture."""
        self._edition += 1
        rows = [
            {"id": f"row-{number}", "prompt": f"a red mug {number}", "seed": self._edition if number == 0 else number}
            for number in range(ROWS)
        ]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        (self.folder / f"manifest-{self._edition}.parquet").write_bytes(buffer.getvalue())

    def _expected(self, kind: str) -> float:
        """How long a command of this kind takes: the first ones are let to their end, to know."""
        return 1.1 * self._took[kind] if kind in self._took else FORGOTTEN_AFTER

    def _ended(self, kind: str, begun: float) -> None:
        self._took[kind] = min(time.monotonic() - begun, self._took.get(kind, FORGOTTEN_AFTER))
        self.count["ended"] += 1

"""Actors: the product's own commands as one process each, over a store in memory and without a model.

What a model would draw is a few bytes with the drawer's name in them, so that no two processes draw the same; what a
classifier would say is a function of these bytes. Everything else is the real code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from safety.verdict import Reason, Verdict, allow, ask, refuse
from tasks.catalogue.catalogue import PATH, Catalogue
from tasks.lane.keep import kept
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.screen import decisions_on, masters_of, sort_rows
from tasks.lane.stages import Classified, Made, Rendered, StoredRow
from tasks.ledger.decision import Answer, Decisions
from tasks.ledger.plan import Plan, Planner, write_plan
from tasks.ledger.run import write_json
from tasks.maintenance.prune import prune
from tasks.maintenance.rebuild import rebuild
from tasks.manifests.key import Maker
from tasks.manifests.row import BadRow, Row
from tasks.processes.process import Owner, Process
from tasks.results.encoding import Encoding
from tasks.results.master import Master
from tasks.results.shelf import PictureShelf, StoredPicture
from tasks.review.decide import answer_for
from tasks.review.reviews import ends_waiting
from tasks.runs.finish import collect, settle
from tasks.runs.prepare import Prepared
from tasks.runs.take_up import find_run, take_up

from .memory_store import Bucket, MemoryStore

NOTHING = pa.schema([])
PIXELS = np.zeros((64, 64, 3), np.uint8)
Judge = Callable[[str], Verdict]
"""What a policy says of a row's picture, by the row's id."""


class Inline(Executor):
    """A pool of no threads: what is submitted has been done."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  it is raised where the result is asked for
            future.set_exception(error)
        return future


@contextmanager
def inline() -> Iterator[Executor]:
    yield Inline()


@dataclass
class Machine:
    """A machine whose processes are counted, and of which one can tell whether they live."""

    count: int = 0
    ended: set[int] = field(default_factory=set)

    def process(self, name: str) -> Process:
        self.count += 1
        number = self.count
        names = iter(range(1000))
        return Process(
            owner=Owner(name, "boot", "", number, float(number)),
            is_alive=lambda owner: owner.pid not in self.ended,
            new_name=lambda: f"{number:03}{next(names):02}",
            threads=inline,
            pause=lambda _: None,
        )


def lax(_: str) -> Verdict:
    return allow()


def strict(_: str) -> Verdict:
    return refuse(Reason.CONCEPT, "The picture shows what this policy refuses.")


def careful(_: str) -> Verdict:
    return ask({"weapon": 0.1}, "A person must look.")


@dataclass(frozen=True)
class Command:
    """A run of a job: the rows of its manifest, and who judges."""

    name: str
    ids: tuple[str, ...] = ("a",)
    judge: Judge = lax
    shard_rows: int = 2
    unlike: bool = False  # its profile allows no picture like another one's; here all are alike
    retires: bool = False
    words: str = "a mug"  # of its prompts

    def __call__(self, bucket: Bucket, process: Process) -> None:
        """Take the rows of the manifest to their ends."""
        store = MemoryStore(bucket)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "plan.parquet"
            prepared = self._prepared(store, process, file)
            if prepared.complete:
                return
            plan, run = Plan(file), prepared.run
            stages = Stages(store, self, process.owner.host, prepared.spec.from_before)
            recorder = OutcomeRecorder(run.id, "model", "prompt")
            for shard in run.left(store, range(prepared.shards), Inline()):
                rows = plan.shard(shard)
                left, masters, failed = masters_of(rows, stages.shelf, Inline(), recorder)
                histories = decisions_on(left, Decisions(store), Inline())
                screened = sort_rows(
                    shard, left, [allow()] * len(left), histories, masters, [None] * len(left), recorder=recorder
                )
                made: Classified = [stages.made(row) for row in screened.to_render]
                judged = [*made, *stages.classify([*screened.found], screened)]
                outcomes = kept(judged, screened, stages=stages, pool=Inline(), recorder=recorder)
                run.commit(store, shard, [*screened.ended, *failed, *outcomes])
            ended = collect(store, prepared, process)
            settled = settle(store, prepared, ended, process)
            if ended.complete:
                write_json(store, run.path("summary.json"), {"catalogue_version": settled.version})

    def _prepared(self, store: MemoryStore, process: Process, file: Path) -> Prepared:
        def draft(catalogue: Catalogue) -> bool:
            planner = Planner(
                rows=Rows(self),
                maker=Maker("checkpoint", "float32", ("png", None)),
                policy_fingerprint=lambda _: self.judge.__name__,
                known=catalogue.known,
                retry=frozenset(),
                shard_rows=self.shard_rows,
                decided=partial(ends_waiting, Decisions(store)),
            )
            plan_counts = write_plan(
                planner,
                Manifest(self),
                file,
                planned_from=catalogue.state.version,
                unlike_others=lambda: self.unlike_others,
            )
            return plan_counts.to_do > 0 or self.retires

        job = {"manifest": "manifest.parquet"}
        document = {"job": job, "model": "model", "text_column": "prompt", "retire_missing": self.retires}
        taken = take_up(store, find_run(self.name, store), file, draft, document=document, process=process)
        old = taken.catalogue.state.from_before or taken.plan.planned_from is None
        spec: Any = SimpleNamespace(store=store.uri, model="model", kind="generate", from_before=old)
        return Prepared(
            run=taken.run,
            shards=taken.plan.shards,
            to_do=taken.plan.to_do,
            ended=0,
            complete=taken.complete,
            spec=spec,
            manifest="manifest.parquet",
            editor=taken.editor,
            unlike_others=self.unlike_others,
            retires=self.retires,
        )

    @property
    def unlike_others(self) -> tuple[str, ...]:
        return ("none",) if self.unlike else ()


@dataclass(frozen=True)
class Rows:
    command: Command

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        for index, row_id in enumerate(batch.column("id").to_pylist()):
            yield index, Row(row_id, f"{self.command.words} {row_id}", "", 1, 64, 64, 2, 1.0, "none")

    def keep(self, row: Row) -> None:
        pass


@dataclass(frozen=True)
class Manifest:
    command: Command
    carried: pa.Schema = NOTHING
    name: str = "manifest.parquet"

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": pa.array(self.command.ids, pa.string())})


@dataclass(frozen=True)
class Stages:
    """What a lane's stages do, with a pencil for a model."""

    store: MemoryStore
    command: Command
    drawer: str
    from_before: bool = False

    @property
    def shelf(self) -> PictureShelf:
        return PictureShelf(self.store, Encoding("png", 92), from_before=self.from_before)

    def made(self, row: Row) -> Made:
        picture = f"{row.id} as {self.drawer} draws it".encode()
        return self._judged(row, picture, 1.0)

    def classify(self, batch: Rendered, screened: object) -> Classified:
        del screened
        found = [thing for thing in batch if isinstance(thing, StoredRow)]
        return [self._judged(one.row, self.shelf.read(one.master).picture, 0.0, one.master) for one in found]

    def _judged(self, row: Row, picture: bytes, seconds: float, master: Master | None = None) -> Made:
        looks = "00" * 56 if self.command.unlike else None
        return Made(
            row,
            PIXELS,
            seconds,
            master,
            contents=StoredPicture(picture),
            fingerprint=looks,
            verdict=self.command.judge(row.id),
        )


@dataclass(frozen=True)
class Decide:
    """A person's answer, or a takedown."""

    name: str
    ids: Sequence[str]
    answer: Answer
    asked: bool = True

    def __call__(self, bucket: Bucket, process: Process) -> None:
        answer_for(MemoryStore(bucket), self.ids, self.answer, by=self.name, note="", asked=self.asked, process=process)


@dataclass(frozen=True)
class Prune:
    """Everything that nothing refers to any more."""

    name: str

    def __call__(self, bucket: Bucket, process: Process) -> None:
        prune(MemoryStore(bucket), process=process)


@dataclass(frozen=True)
class Rebuild:
    """The catalogue anew."""

    name: str

    def __call__(self, bucket: Bucket, process: Process) -> None:
        """Add what the catalogue lacks."""
        rebuild(MemoryStore(bucket), process)


@dataclass(frozen=True)
class Loss:
    """Somebody deletes the catalogue."""

    name: str

    def __call__(self, bucket: Bucket, process: Process) -> None:
        """Delete it; no process of packshot does."""
        del process
        bucket.objects.pop(PATH)
        bucket.tokens.pop(PATH)


Doing = Command | Decide | Prune | Rebuild | Loss

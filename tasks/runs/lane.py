"""A lane: one process that owns one device, keeps its model warm, and takes shards one after another."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.files.temporary_folder import temporary_folder
from models.loading.loaded_once import loaded, loaded_once
from models.lost_device import DeviceLost
from tasks.judging.judges import Judges
from tasks.kinds.registry import kind_named
from tasks.lane.bounded_queue import BoundedQueue, QueueAbandoned
from tasks.lane.classify import classify
from tasks.lane.keep import keep
from tasks.lane.lane_resources import LaneEngine, LaneResources, losing_the_device, make_room
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.render import render
from tasks.lane.screen import screen
from tasks.lane.shard_queue import ShardSource
from tasks.lane.stages import Classified, Rendered, Screened
from tasks.ledger.decision import Decisions
from tasks.ledger.faults import Faults, collected_faults
from tasks.ledger.plan import Plan
from tasks.ledger.run import Run, write_json
from tasks.processes.stopping import Stopped, stop
from tasks.stores.opening import open_store
from tasks.stores.store import Store, StoreError

if TYPE_CHECKING:
    from models.loading.prompt_encoder import PromptEncoder
    from models.memory.usage import Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")
BATCHES_BETWEEN_STAGES = 2
SHARDS_BEHIND = 1  # that may still be classified and kept while the next one renders
STORE_THREADS = 16
SECONDS_BETWEEN_LOOKS = 0.5  # at whether what other lanes hold has ended


@task(name="lane", task_run_name="lane {number}", cache_policy=NO_CACHE)
def lane(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Take shards to their ledgers, as long as there are any. Returns how many it did.

    Raises:
        Stopped: if a person or the system asked for it.
        DeviceLost: if the GPU is in a state that only a new process leaves. What was made before that is stored.
    """
    store = open_store(spec.store, dialect=spec.dialect)
    with (
        fetched_plan(spec, store) as plan,
        collected_faults(store, Run(spec.run), number) as faults,
        LaneWorker(spec, store, plan, faults) as line,
    ):
        try:
            return line.work(shards)
        except DeviceLost:
            logger.exception("The GPU failed, and the run had to be begun again.")
            raise
        finally:
            if (usage := line.usage) is not None:
                write_json(store, Run(spec.run).lane_path(number), asdict(usage))


@contextlib.contextmanager
def fetched_plan(spec: LaneSpec, store: Store) -> Iterator[Plan]:
    """Give the plan of a lane's run, in a file that stays as long as the block runs.

    Raises:
        StoreError: if it is gone.
    """
    with temporary_folder() as folder:
        file = folder / "plan.parquet"
        path = Run(spec.run).path("plan.parquet")
        if store.download(path, file) is None:
            raise StoreError(f"The plan of run {spec.run} is gone from {store.uri}.")
        yield Plan(file, store.uri_of(path))


class LaneWorker:
    """The stages of a lane and what they hold open between shards."""

    def __init__(self, spec: LaneSpec, store: Store, plan: Plan, faults: Faults) -> None:
        self.spec, self.store, self.plan, self.faults = spec, store, plan, faults
        self.kind = kind_named(spec.kind)
        self.recorder = OutcomeRecorder(spec.run, spec.model, self.kind.text_column)
        self.judges = Judges(spec.policy, spec.classifiers, spec.profiles, device=spec.hardware.device)
        self.decisions = Decisions(store)
        self.threads = ThreadPoolExecutor(2 * (SHARDS_BEHIND + 1) + 1, "stage")
        self.pool = ThreadPoolExecutor(STORE_THREADS, "store")
        self.open = contextlib.ExitStack()
        self.stages = self.kind.open_stages(
            LaneResources(
                spec,
                store,
                plan,
                judges=self.judges,
                decisions=self.decisions,
                pool=self.pool,
                recorder=self.recorder,
                engine=lambda: self.engine,
                open=self.open,
            )
        )
        self.behind: deque[tuple[Future[Any], ...]] = deque()  # the stages that go on behind the rendering

    def __enter__(self) -> LaneWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown()
        self.pool.shutdown()
        self.open.close()

    @loaded_once
    def engine(self) -> LaneEngine:
        """Return the model, loaded when there is something to make."""
        self._give_up_reader()
        with losing_the_device():
            return self.kind.open_engine(self.spec)

    @loaded_once
    def reader(self) -> PromptEncoder:
        """Return the model's text encoder alone, loaded when only stored rows are to be judged by it."""
        from models.loading.prompt_encoder import load_prompt_encoder

        spec = self.spec
        return load_prompt_encoder(
            spec.checkpoint,
            device=spec.hardware.device,
            precision=spec.precision,
            memory_fraction=spec.hardware.memory_fraction,
            gpu_memory=spec.hardware.gpu_memory,
        )

    def _prompt_reader(self, needs_model: bool) -> PromptEncoder:
        """Return what reads prompts: the model's own, if it is or will be loaded; else the text encoder alone."""
        return self.engine.components if needs_model or loaded(self, "engine") else self.reader

    def _give_up_reader(self) -> None:
        """Make room for the model, which has a text encoder of its own."""
        if loaded(self, "reader") is not None:
            del self.reader
            make_room()

    @property
    def usage(self) -> Usage | None:
        """What the model was predicted to take and took; None if nothing was made."""
        engine: LaneEngine | None = loaded(self, "engine")
        return engine.usage if engine else None

    def work(self, shards: ShardSource) -> int:
        """Render shard after shard; the next one is screened meanwhile, and the last one classified and kept."""
        done = 0
        try:
            ahead: Future[Screened] | None = None
            while not stop.is_set() and (coming := ahead or self._next(shards)) is not None:
                screened = coming.result()
                following = shards.take(ahead=True)
                ahead = self._start(self._screen, following) if isinstance(following, int) else None
                self.behind.append(going := self._shard(screened))
                going[-1].add_done_callback(partial(_end, shards, screened.shard))
                self._settle(SHARDS_BEHIND)
                self.faults.save()
                done += 1
        finally:
            self._settle(0)
        if stop.is_set():
            raise Stopped
        return done

    def _next(self, shards: ShardSource) -> Future[Screened] | None:
        """Begin with the next shard; where others hold what is left, wait until that has ended or is given back."""
        while (shard := shards.take()) == "wait":
            self._between_batches()
            stop.wait(SECONDS_BETWEEN_LOOKS)
        return self._start(self._screen, shard) if isinstance(shard, int) else None

    def _screen(self, shard: int) -> Screened:
        return screen(
            shard,
            self.plan.shard(shard),
            stages=self.stages,
            judges=self.judges,
            decisions=self.decisions,
            pool=self.pool,
            recorder=self.recorder,
        )

    def _shard(self, screened: Screened) -> tuple[Future[Any], ...]:
        """Render a shard in this thread while others classify and keep it; returns what is still going on."""
        rendered: BoundedQueue[Rendered] = BoundedQueue(BATCHES_BETWEEN_STAGES)
        classified: BoundedQueue[Classified] = BoundedQueue(BATCHES_BETWEEN_STAGES)
        shard, stages = screened.shard, self.stages
        going = (
            self._start(classify, shard, screened, stages=stages, rendered=rendered, out=classified),
            self._start(
                keep,
                shard,
                screened,
                store=self.store,
                stages=stages,
                pool=self.pool,
                classified=classified,
                recorder=self.recorder,
            ),
        )
        for future in going:
            future.add_done_callback(partial(_give_up, (rendered, classified)))
        try:
            render(
                shard,
                screened,
                stages=stages,
                probe=self.judges.policy.probe,
                prompts=self._prompt_reader,
                recorder=self.recorder,
                out=rendered,
                between_batches=self._between_batches,
            )
        except QueueAbandoned:
            _finish(going)  # raises what the other stages failed of
            raise
        except BaseException:
            with contextlib.suppress(QueueAbandoned):
                _finish(going)
            raise
        return going

    def _start(self, step: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        # A copied context is what records a task run of another thread under this flow run (Prefect 3.8.8).
        return self.threads.submit(copy_context().run, step, *args, **kwargs)

    def _settle(self, most: int) -> None:
        """Wait until at most so many shards are still being classified and kept."""
        while len(self.behind) > most:
            _finish(self.behind.popleft())

    def _between_batches(self) -> None:
        """End the run where it should end: nobody wants a shard more from a model whose pictures can't be stored."""
        if stop.is_set():
            raise Stopped
        for going in self.behind:
            if any(future.done() and future.exception() for future in going):
                _finish(going)


def _end(shards: ShardSource, shard: int, kept: Future[Any]) -> None:
    """Note that a shard has ended, if it has."""
    if kept.exception() is None:
        shards.end(shard)


def _give_up(queues: tuple[BoundedQueue[Any], ...], stage: Future[Any]) -> None:
    """Let nobody wait for a stage that has failed: where its task failed before it began, it couldn't say so itself."""
    if stage.cancelled() or stage.exception() is not None:
        for handed in queues:
            handed.abandon()


def _finish(going: tuple[Future[Any], ...]) -> None:
    """Wait for stages; raise what one failed of, and that the other one gave up only if nothing else says why."""
    errors = [error for future in going if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, QueueAbandoned)):
        raise error

"""Lanes as Ray actors: Ray places them, starts them again and carries what they say; a dispatcher hands out shards.

Actors rather than prefect-ray's tasks: a task would be given its shards when it starts, and this is about lanes that
take them as they come free, and are begun again where they die.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import ray
from prefect import Flow, tags
from prefect.context import hydrated_context, serialize_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flows.lanes.dispatcher import Dispatcher, LaneHistory, LostLife, Place, Progress
from flows.lanes.node_check import Needs, lacking
from flows.lanes.ray_cluster import Cluster
from flows.lanes.task_runs import tag_of
from models.lost_device import DeviceLost, LanesLost
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.shard_queue import Nothing, ShardSource
from tasks.processes.stopping import Stopped, stop, stopping_in_order
from tasks.progress import listener, tell
from tasks.runs.lane import lane

RunLane = Callable[[int, LaneSpec, ShardSource], int]

SECONDS_BETWEEN_BEATS = 1.0
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 20.0  # of lanes that were told to stop: to hear it, for the batch in hand, and to publish that
SECONDS_TO_TELL = 5.0  # Prefect what a process that ends hasn't told it yet
SECONDS_BETWEEN_COUNTS = 5.0  # of a cluster that may have grown
ENDED_OF_ITSELF = 1  # exit code of a process that leaves a lane, so that Ray begins it again


def product_lane(number: int, spec: LaneSpec, shards: ShardSource) -> int:
    """Work as the one lane of a run does. A plain function travels by its name; a task of Prefect's is taken along."""
    return lane(number, spec, shards)


class Remote:
    """What a lane's process takes its shards from: the dispatcher, in another process."""

    def __init__(self, dispatcher: Any, life: int) -> None:
        self._dispatcher, self._life = dispatcher, life
        self.is_stopping = False  # because the run does
        self._over = threading.Event()

    def take(self, *, ahead: bool = False) -> int | Nothing:
        """Give the next shard."""
        taken: int | Nothing = ray.get(self._dispatcher.take.remote(self._life, ahead=ahead))
        return taken

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written."""
        ray.get(self._dispatcher.end.remote(self._life, shard))

    def tell(self, outcomes: Any) -> None:
        """Tell what became of some rows."""
        self._dispatcher.tell.remote(self._life, list(outcomes))

    def leave(self, failed_of: str | None) -> None:
        """End this process, and have the lane begin again in another."""
        tell_the_rest()
        with suppress(RayError):
            ray.get(self._dispatcher.leave.remote(self._life, failed_of))
        os._exit(ENDED_OF_ITSELF)

    def is_run_stopping(self) -> bool:
        """Ask whether the whole run stops, and not this machine alone."""
        return self.is_stopping or ray.get(self._dispatcher.beat.remote(self._life)) == "stop"

    def finish(self) -> None:
        """Say that this process has no more to do."""
        ray.get(self._dispatcher.finish.remote(self._life))

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say once a second that this process lives, and hear whether it is to stop or to end."""
        thread = threading.Thread(target=self._beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _beat(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_BEATS):
            try:
                answer = ray.get(self._dispatcher.beat.remote(self._life))
            except RayError:  # the run's command is gone
                os._exit(ENDED_OF_ITSELF)
            if answer == "lost":
                os._exit(ENDED_OF_ITSELF)
            if answer == "stop" and not self.is_stopping:
                self.is_stopping = True
                os.kill(os.getpid(), signal.SIGTERM)  # as a person stops a run that has one lane


class RayLane:
    """A lane in a process of its own."""

    def work(
        self,
        number: int,
        run: RunLane,
        spec: LaneSpec,
        needs: Needs,
        dispatcher: Any,
        context: dict[str, Any],
        *,
        shares_cores: bool,
    ) -> None:
        """Take shards until there are none; returns early where this place is left out, or the run stops.

        With `shares_cores`, its threads are as many as the node has cores for each lane.
        """
        if shares_cores:
            os.environ["OMP_NUM_THREADS"] = str(cores_a_lane())  # Ray says one (2.60); torch isn't imported yet
        if lacks := lacking(needs):
            ray.get(dispatcher.refuse.remote(number, this_place(), "; ".join(lacks)))
            return
        life = ray.get(dispatcher.begin.remote(number, this_place()))
        if life is None:
            return
        source = Remote(dispatcher, life)
        with (
            hydrated_context(context),
            tags(tag_of(life)),
            _heard_by(source),
            stopping_in_order(),
            source.beating(),
        ):
            try:
                run(number, spec, source)
            except Stopped:
                if not source.is_run_stopping():  # the machine is being taken away
                    source.leave(None)
            except DeviceLost as error:
                source.leave(str(error))
            finally:
                tell_the_rest()
                source.finish()


def tell_the_rest() -> None:
    """Tell Prefect what this process has still to tell: Ray ends it without an exit of Python's."""
    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=SECONDS_TO_TELL, at_exit=False)


def cores_a_lane() -> int:
    """Return how many cores of this node there are for each lane that may work on it."""
    here = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return max(1, (os.cpu_count() or 1) // int(resources.get("GPU") or resources.get("CPU") or 1))


def flow_context() -> dict[str, Any]:
    """Return what tells Prefect in another process which flow run is meant.

    The flow itself stays here: of it lanes need the name, and what it holds need not travel.
    """
    context = serialize_context()
    run = context["flow_run_context"]
    return {**context, "flow_run_context": {**run, "flow": Flow(_stays_here, name=run["flow"].name)}}


def _stays_here() -> None:
    """Stand for a flow in the processes of lanes, which call only its tasks."""


def this_place() -> Place:
    """Return where this process works."""
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    device = f"GPU {', '.join(gpus)}" if gpus else "CPU"
    return Place(context.get_node_id(), socket.gethostname(), device)


@contextmanager
def _heard_by(source: Remote) -> Iterator[None]:
    token = listener.set(source.tell)
    try:
        yield
    finally:
        listener.reset(token)


class RayLanes:
    """The lanes of a run on a cluster, from the process that waits for them."""

    def __init__(
        self,
        cluster: Cluster,
        spec: LaneSpec,
        shards: list[int],
        needs: Needs,
        *,
        hear_lost: Callable[[list[LostLife]], object] = lambda _: None,
        silent_after: float | None = None,
        run: RunLane = product_lane,
    ) -> None:
        """Bring up the dispatcher on this machine; called inside the flow.

        `hear_lost` is called with processes that were lost; `run` is what each lane does.
        """
        self._cluster, self._spec, self._needs, self._run = cluster, spec, needs, run
        self._hear_lost = hear_lost
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        dispatcher = ray.remote(Dispatcher).options(num_cpus=0, scheduling_strategy=here)
        options = {} if silent_after is None else {"silent_after": silent_after}
        stalled_after = 60 * spec.hardware.stalled_minutes
        self.dispatcher: Any = dispatcher.remote(shards, cluster.lanes(), stalled_after, **options)
        self._context = ray.put(flow_context())
        self.actors: dict[int, Any] = {}
        self._working: dict[Any, int] = {}  # what each lane's work returns → its number
        self._counted = float("-inf")

    def work(self) -> Progress:
        """Have lanes take all shards to their ledgers, and tell what becomes of rows as it happens.

        Raises:
            Stopped: if somebody asked for it; lanes have been given time for the batch in hand.
            LanesLost: if every place failed too often, or the cluster is gone.
            BaseException: what a lane failed of, as it would have in this process; the others have been stopped.
        """
        try:
            while not (progress := self._look()).is_over:
                if stop.is_set():
                    raise Stopped
                self._grow()
                for number in progress.stalled:
                    ray.kill(self.actors[number], no_restart=False)
                _raise_first(self._settle(SECONDS_BETWEEN_LOOKS))
                if self.actors and set(progress.lanes_left_out) >= set(self.actors):
                    raise LanesLost(" ".join(left_out(progress)))
            _raise_first(self._wait(SECONDS_TO_END))
            return self._look()
        except RayError as error:
            # What asked this process to stop may have ended Ray's own processes, too, as a service's stop does.
            if stop.is_set():
                raise Stopped from None
            raise LanesLost(
                f"The Ray cluster doesn't answer any more ({type(error).__name__}). What was finished is stored; the "
                "same command goes on from there."
            ) from error
        except BaseException:
            with suppress(RayError):
                self._stop()
            raise

    def histories(self) -> list[LaneHistory]:
        """Say what became of each lane."""
        found: list[LaneHistory] = ray.get(self.dispatcher.histories.remote())
        return found

    def _look(self) -> Progress:
        progress: Progress = ray.get(self.dispatcher.look.remote())
        tell(progress.outcomes)
        if progress.lost:
            self._hear_lost(progress.lost)
        return progress

    def _grow(self) -> None:
        """Begin lanes that are wanted and weren't begun: all at first, and later those of nodes that have joined."""
        if time.monotonic() - self._counted < SECONDS_BETWEEN_COUNTS:
            return
        self._counted = time.monotonic()
        wanted = self._cluster.lanes()
        if wanted > len(self.actors):
            ray.get(self.dispatcher.expect.remote(wanted))
        for number in range(len(self.actors), wanted):
            amount = {"num_gpus": 1} if self._cluster.on_gpus else {"num_cpus": 1}
            # Ray begins a lane again that dies, elsewhere if it must; the dispatcher says when that is enough.
            options = {"max_restarts": -1, "max_task_retries": -1, "num_cpus": 1, **amount}
            actor = ray.remote(RayLane).options(**options).remote()
            self.actors[number] = actor
            asked = number, self._run, self._spec, self._needs, self.dispatcher, self._context
            # Where a person has said how many threads there are to be, Ray's processes have heard it, too.
            work = actor.work.remote(*asked, shares_cores="OMP_NUM_THREADS" not in os.environ)
            self._working[work] = number

    def _settle(self, seconds: float) -> list[BaseException]:
        """Wait for so long, and forget lanes that have ended; returns what those failed of that did."""
        time.sleep(seconds)  # not within Ray, where a signal's exception becomes another (2.60)
        working, failed = list(self._working), list[BaseException]()
        ended, _ = ray.wait(working, num_returns=len(working), timeout=0) if working else ([], [])
        for work in ended:
            del self._working[work]
            try:
                ray.get(work)
            except RayTaskError as error:
                failed.append(error.cause)
            except RayActorError as error:
                failed.append(LanesLost(f"A lane can't be begun again on Ray: {error}"))
        return failed

    def _stop(self) -> None:
        """Have lanes end the batch in hand, and wait for that."""
        ray.get(self.dispatcher.stop.remote())
        self._wait(SECONDS_TO_END)
        ray.get(self.dispatcher.give_up.remote())
        self._look()

    def _wait(self, seconds: float) -> list[BaseException]:
        """Wait for lanes that work to end, not for those that Ray hasn't begun again; returns what any failed of."""
        deadline, failed = time.monotonic() + seconds, list[BaseException]()
        while self._working and (left := deadline - time.monotonic()) > 0:
            failed += self._settle(min(left, SECONDS_BETWEEN_LOOKS))
            if not ray.get(self.dispatcher.living.remote()):
                break
        return failed


def _raise_first(failed: list[BaseException]) -> None:
    for error in failed:
        raise error from None


def left_out(progress: Progress) -> list[str]:
    """Say which places were left out, and why, a sentence each."""
    return [f"{place.sentence} was left out: {why.rstrip('.')}." for place, why in progress.left_out.items()]


def documents(histories: list[LaneHistory]) -> list[dict[str, Any]]:
    """Return what became of lanes, as the store keeps it."""
    return [asdict(history) for history in histories]

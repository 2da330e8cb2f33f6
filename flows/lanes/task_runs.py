"""The task runs of a lane's process in Prefect's record: a process that is lost leaves them as if they still ran."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
    TaskRunFilterTags,
)
from prefect.client.schemas.objects import StateType, TaskRun
from prefect.states import Crashed

from flows.lanes.dispatcher import LostLife
from flows.orchestration.telling import PrefectNotifier
from tasks.processes.stopping import stop

GOING_ON = TaskRunFilterState(
    type=TaskRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
)
PROCESS = "process "  # what tags of processes begin with
SECONDS_TO_HEAR = 15.0  # for Prefect, how task runs ended whose processes have: it may write messages every 5 (3.8.8)
SECONDS_TO_HEAR_STOPPING = 0.5  # the same, in a run that is to end
SECONDS_BETWEEN_LOOKS = 0.1
UNTOLD = "This process ended, and Prefect wasn't told how it got on."


def tag_of(life: int) -> str:
    """Return the tag of all that a lane's process runs; processes are counted within a flow run."""
    return f"{PROCESS}{life}"


def end_lost(telling: PrefectNotifier, lost: Sequence[LostLife]) -> None:
    """Have what the record shows as running, of processes that were lost, end as Crashed with a sentence."""
    if (flow_run := telling.flow_run_id) is None or not lost:
        return

    def tell(client: SyncPrefectClient) -> None:
        for life in lost:
            _crash(client, _going_on(client, flow_run, tag_of(life.life)), life.sentence)

    telling.attempt(tell)


def end_untold(telling: PrefectNotifier) -> None:
    """Have what the record still shows as running end as Crashed, once no process of a lane works any longer.

    A process may end before Prefect hears how its task runs did, or while Prefect can't be told.
    """
    if (flow_run := telling.flow_run_id) is None:
        return
    began, crashed = time.monotonic(), set[UUID]()
    shown: list[TaskRun] = []

    def look(client: SyncPrefectClient) -> None:
        shown.extend(run for run in _going_on(client, flow_run) if run.id not in crashed)

    def crash(client: SyncPrefectClient) -> None:
        _crash(client, shown, UNTOLD)

    telling.attempt(look)
    while shown:  # nothing is, either, where Prefect is away
        if time.monotonic() - began < (SECONDS_TO_HEAR_STOPPING if stop.is_set() else SECONDS_TO_HEAR):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        else:
            telling.attempt(crash)
            crashed |= {run.id for run in shown}  # there may be more of them than one answer has
        shown.clear()
        telling.attempt(look)


@contextmanager
def ending_lost(telling: PrefectNotifier) -> Iterator[Callable[[list[LostLife]], None]]:
    """Give what is to hear of processes that were lost: it has a thread of its own, as nobody waits for Prefect.

    At the end, when no process of a lane works any longer, nothing is left that seems to.
    """
    known: list[LostLife] = []

    def hear(lost: list[LostLife]) -> None:
        known.extend(lost)
        pool.submit(copy_context().run, end_lost, telling, lost)

    with ThreadPoolExecutor(1, "ending lost") as pool:
        try:
            yield hear
        finally:
            # Once more: what a process told last may come after it was known to be lost.
            pool.submit(copy_context().run, end_lost, telling, known)
            pool.submit(copy_context().run, end_untold, telling)


def _going_on(client: SyncPrefectClient, flow_run: UUID, tag: str | None = None) -> list[TaskRun]:
    """Return the task runs of lanes' processes that the record shows as running, of one with a tag or of all."""
    found = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
        task_run_filter=TaskRunFilter(tags=TaskRunFilterTags(all_=[tag]) if tag else None, state=GOING_ON),
    )
    return [run for run in found if any(each.startswith(PROCESS) for each in run.tags)]


def _crash(client: SyncPrefectClient, runs: Sequence[TaskRun], sentence: str) -> None:
    for run in runs:
        client.set_task_run_state(run.id, Crashed(message=sentence), force=True)

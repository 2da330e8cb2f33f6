"""The task runs of a lane's process in Prefect's record: a process that is lost leaves them as if they still ran."""

from __future__ import annotations

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
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from flows.lanes.dispatcher import LostLife
from flows.orchestration.telling import PrefectNotifier

GOING_ON = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)


def tag_of(life: int) -> str:
    """Return the tag of all that a lane's process runs; processes are counted within a flow run."""
    return f"process {life}"


def end_lost(telling: PrefectNotifier, lost: Sequence[LostLife]) -> None:
    """Have what the record shows as running, of processes that were lost, end as Crashed with a sentence."""
    if (flow_run := telling.flow_run_id) is None or not lost:
        return

    def tell(client: SyncPrefectClient) -> None:
        for life in lost:
            _crash(client, flow_run, life)

    telling.attempt(tell)


@contextmanager
def ending_lost(telling: PrefectNotifier) -> Iterator[Callable[[list[LostLife]], None]]:
    """Give what is to hear of processes that were lost: it has a thread of its own, as nobody waits for Prefect.

    Once more at the end: what a process told last may come after it was known to be lost.
    """
    known: list[LostLife] = []

    def hear(lost: list[LostLife]) -> None:
        known.extend(lost)
        pool.submit(copy_context().run, end_lost, telling, lost)

    with ThreadPoolExecutor(1, "ending lost") as pool:
        try:
            yield hear
        finally:
            pool.submit(copy_context().run, end_lost, telling, known)


def _crash(client: SyncPrefectClient, flow_run: UUID, life: LostLife) -> None:
    of_life = TaskRunFilter(
        tags=TaskRunFilterTags(all_=[tag_of(life.life)]),
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(GOING_ON))),
    )
    here = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    for run in client.read_task_runs(flow_run_filter=here, task_run_filter=of_life):
        client.set_task_run_state(run.id, Crashed(message=life.sentence), force=True)

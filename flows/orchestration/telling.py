"""What Prefect is told of a run while it goes on. Nobody waits for Prefect, and nothing fails because it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import cached_property
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, SettingsContext, SyncClientContext, get_settings_context

from tasks.outcome import Outcome
from tasks.processes.stopping import ask_to_stop
from tasks.progress import listener
from tasks.runs.prepare import Prepared

SECONDS_BETWEEN = 10.0  # two times at which Prefect is told how far a run is
SECONDS_BETWEEN_HEARINGS = 2.0  # two times at which it is asked whether somebody cancelled the run
HURRY = 5.0  # seconds for an answer at the end of a run, from a server that gave none before
PATIENCE = 20.0  # seconds for an answer: a server that is busy is slow, and not away


class PrefectNotifier:
    """Tells Prefect of one run, and knows for how long it couldn't."""

    def __init__(self) -> None:
        """Called inside a flow."""
        context = FlowRunContext.get()
        run = context.flow_run if context is not None else None
        self.flow_run_id: UUID | None = run.id if run is not None else None
        self._told = time.monotonic()  # when Prefect answered last
        self._away, self._trouble, self.is_away = 0.0, "", False
        self._attempting = threading.Lock()
        self._open = ExitStack()  # the client, until an attempt with it fails

    def __enter__(self) -> PrefectNotifier:
        return self

    def __exit__(self, *_: object) -> None:
        with self._attempting:
            self._open.close()

    def hurry(self) -> None:
        """Have the flow's own client wait but briefly for the answer of a server that was away a moment ago.

        That client has one patience for all (Prefect 3.8.8), and reports the flow's end twice where that fails.
        """
        context = SyncClientContext.get()
        if self.is_away and context is not None:
            context.client._client.timeout = HURRY

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person should know of that, if anything."""
        if not self._trouble:
            return ()
        seconds = round(self._seconds_away)
        time_ = f"{seconds} seconds" if seconds < 120 else f"{round(seconds / 60)} minutes"
        return (f"Prefect couldn't be told how the run gets on for {time_} ({self._trouble}); the run went on.",)

    @property
    def _seconds_away(self) -> float:
        return self._away + (time.monotonic() - self._told if self.is_away else 0.0)

    def attempt(self, step: Callable[[SyncPrefectClient], None]) -> None:
        """Tell Prefect something, once; or note that it couldn't be told."""
        with self._attempting:
            try:
                with self._without_retries:
                    step(self._client)
            except Exception as error:  # noqa: BLE001  whatever Prefect's client fails of is no trouble of the run's
                self._trouble, self.is_away = type(error).__name__, True
                self.__dict__.pop("_client", None)
                self._open.close()
            else:
                self._away, self._told, self.is_away = self._seconds_away, time.monotonic(), False

    @cached_property
    def _client(self) -> SyncPrefectClient:
        return self._open.enter_context(get_client(httpx_settings={"timeout": PATIENCE}, sync_client=True))

    @cached_property
    def _without_retries(self) -> SettingsContext:
        """Prefect's settings but for its client's patience; its own way to copy them reads them all anew."""
        context = get_settings_context()
        client = context.settings.client.model_copy(update={"max_retries": 0})
        return SettingsContext(profile=context.profile, settings=context.settings.model_copy(update={"client": client}))


@contextmanager
def telling_progress(telling: PrefectNotifier, prepared: Prepared) -> Iterator[None]:
    """Show in Prefect how many of a run's rows have ended, beside whoever listens already.

    A thread of its own tells Prefect, so that no stage of a lane waits for an answer.
    """
    progress = _Progress(telling, prepared)
    before = listener.get()

    def listen(outcomes: Sequence[Outcome]) -> None:
        if before is not None:
            before(outcomes)
        progress.count(len(outcomes))

    token = listener.set(listen)
    # A copied context is what makes Prefect know which run is meant (Prefect 3.8.8).
    thread = threading.Thread(target=copy_context().run, args=(progress.tell,), name="telling", daemon=True)
    thread.start()
    try:
        yield
        progress.has_ended = True
    finally:
        listener.reset(token)
        progress.over.set()
        thread.join(2 * PATIENCE)


class _Progress:
    """How far a run is, as a progress artifact."""

    def __init__(self, telling: PrefectNotifier, prepared: Prepared) -> None:
        self.telling, self.prepared = telling, prepared
        self.over, self.has_ended = threading.Event(), False
        self._ended, self._counting = prepared.ended, threading.Lock()
        self._artifact: UUID | None = None

    def count(self, rows: int) -> None:
        with self._counting:
            self._ended += rows

    def tell(self) -> None:
        """Tell how far it is, again and again until it is over, and then once more; hear more often of a cancel."""
        told = float("-inf")
        while not self.over.is_set():
            if time.monotonic() - told >= SECONDS_BETWEEN:
                self.telling.attempt(self._tell)
                told = time.monotonic()
            self.telling.attempt(self._hear)
            self.over.wait(min(SECONDS_BETWEEN, SECONDS_BETWEEN_HEARINGS))
        if not self.telling.is_away:
            self.telling.attempt(self._tell)

    def _hear(self, client: SyncPrefectClient) -> None:
        """Stop the run where somebody cancelled it in Prefect; one of a deployment is stopped by its worker."""
        if self.telling.flow_run_id is None:
            return
        run = client.read_flow_run(self.telling.flow_run_id)
        is_cancelled = run.state is not None and (run.state.is_cancelling() or run.state.is_cancelled())
        if is_cancelled and run.deployment_id is None:
            ask_to_stop()

    def _tell(self, client: SyncPrefectClient) -> None:
        share = 100.0 if self.has_ended else min(100.0, 100 * self._ended / max(self.prepared.to_do, 1))
        if self._artifact is not None:
            client.update_artifact(self._artifact, ArtifactUpdate(data=share))
            return
        # Without a key: two runs at once would write over each other's.
        self._artifact = client.create_artifact(
            ArtifactCreate(
                type="progress",
                data=share,
                description=f"Rows of run {self.prepared.run.id} that have ended",
                flow_run_id=self.telling.flow_run_id,
            )
        ).id

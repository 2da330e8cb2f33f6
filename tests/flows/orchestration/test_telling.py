"""Prefect is told how a run gets on when it is there; nobody waits for it, and nothing fails when it isn't."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import prefect
import pytest
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.orchestration import telling
from flows.orchestration.ending import ending, run_to_its_end
from flows.orchestration.prefect_settings import ServerError
from flows.orchestration.server import prefect_server
from flows.orchestration.telling import PrefectNotifier, telling_progress
from tasks.progress import listener, tell
from tasks.reports.summary import Summary
from tests.tasks.bad_server import Answer, BadServer, forever, resets, sends, serving
from tests.waiting import wait_for

ARTIFACT = str(uuid.uuid4())
CREATE, UPDATE = "/api/artifacts/", f"/api/artifacts/{ARTIFACT}"
CREATED = sends(json.dumps({"id": ARTIFACT, "type": "progress"}).encode(), content_type="application/json")
UPDATED = sends(status="204 No Content")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    """What answers in a Prefect server's place, asked often and with little patience."""
    monkeypatch.setattr(telling, "SECONDS_BETWEEN", 0.05)
    monkeypatch.setattr(telling, "PATIENCE", 0.5)
    EventsWorker.set_client_override(NullEventsClient)  # or later tests' events would wait for this server
    with serving() as server, temporary_settings({PREFECT_API_URL: server.address("/api")}):
        yield server
    EventsWorker.set_client_override(None)


def prepared() -> Any:
    return SimpleNamespace(run=SimpleNamespace(id="run"), ended=0, to_do=10)


def test_a_server_that_is_there_is_told(server: BadServer) -> None:
    server.answers |= {CREATE: [CREATED], UPDATE: [UPDATED]}
    with PrefectNotifier() as told, telling_progress(told, prepared()):
        wait_for(lambda: UPDATE in server.targets())
    assert server.targets().count(CREATE) == 1
    assert (told.is_away, told.sentences) == (False, ())


@pytest.mark.parametrize("how", ["resets", "answers 500", "hangs", "speaks HTML"])
def test_a_server_that_is_away_stops_nobody_and_is_told_when_it_is_back(server: BadServer, how: str) -> None:
    over = threading.Event()
    bad: dict[str, Answer] = {
        "resets": resets,
        "answers 500": sends(status="500 Internal Server Error"),
        "hangs": forever(b"", b"", 0.1, over),
        "speaks HTML": sends(b"<html>", content_type="text/html"),
    }
    server.answers |= {CREATE: [bad[how]], UPDATE: [UPDATED]}
    heard: list[object] = []
    token = listener.set(heard.append)
    try:
        with PrefectNotifier() as told, telling_progress(told, prepared()):
            wait_for(lambda: told.is_away)
            began = time.monotonic()
            for row in range(5):
                tell([row])  # type: ignore[list-item]
            assert time.monotonic() - began < 0.2
            assert told.is_away
            server.answers[CREATE] = [CREATED]
            over.set()
            wait_for(lambda: not told.is_away)
    finally:
        listener.reset(token)
    assert heard == [[0], [1], [2], [3], [4]]
    (sentence,) = told.sentences
    assert sentence.startswith("Prefect couldn't be told how the run gets on for ")
    assert sentence.endswith("the run went on.")


def test_a_run_ends_in_time_beside_a_server_that_hangs(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SECONDS_BETWEEN", 600.0)
    over = threading.Event()
    server.answers[CREATE] = [forever(b"", b"", 0.1, over)]
    with PrefectNotifier() as told, telling_progress(told, prepared()):
        pass
    assert server.targets().count(CREATE) <= 2  # at the beginning and at the end; each time it is waited for but once
    over.set()
    assert told.is_away


def test_what_ended_a_run_is_what_its_flow_ends_with_whatever_prefect_makes_of_it() -> None:
    summary: Any = object()

    def ended(error: BaseException | None = None) -> Summary:
        ending.summary, ending.error = (summary, None) if error is None else (None, error)
        raise ConnectionError("Prefect is away")

    assert run_to_its_end(ended) is summary
    assert not ending.is_told
    with pytest.raises(ZeroDivisionError):
        run_to_its_end(lambda: ended(ZeroDivisionError()))
    assert not ending.is_told


def test_a_flow_that_never_began_ends_with_its_own_error_and_a_told_run_with_its_own() -> None:
    def refused() -> Summary:
        raise ConnectionError

    def failed() -> Summary:
        ending.error = ZeroDivisionError()
        raise ending.error

    with pytest.raises(ConnectionError):
        run_to_its_end(refused)
    assert ending.is_told
    with pytest.raises(ZeroDivisionError):
        run_to_its_end(failed)
    assert ending.is_told


def test_a_server_that_goes_away_before_the_flow_begins_is_named(server: BadServer) -> None:
    server.answers["/api/admin/version"] = [sends(f'"{prefect.__version__}"'.encode())]

    server.answers["/api/flow_runs/filter"] = [resets]

    def begin() -> None:
        with prefect_server(), telling.get_client(httpx_settings={"timeout": 0.5}, sync_client=True) as client:
            client.read_flow_runs()

    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(ServerError, match=r"127\.0\.0\.1:\d+/api doesn't answer any more"),
    ):
        begin()

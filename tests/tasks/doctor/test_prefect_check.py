"""What a Prefect server's answers mean; the servers here are ones that only say what a test wants."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import prefect
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from models.finding import Finding
from tasks.doctor import prefect_check
from tasks.doctor.prefect_check import PrefectFacts, check_prefect, judge_prefect
from tests.tasks.bad_server import Answer, BadServer, sends, serving

VERSION = "/api/admin/version"


@pytest.fixture
def server() -> Iterator[BadServer]:
    with serving() as server, temporary_settings({PREFECT_API_URL: server.address("/api")}):
        yield server


def found() -> Finding:
    (finding,) = check_prefect()
    return finding


def json(body: str) -> Answer:
    return sends(body.encode(), content_type="application/json")


def test_without_an_address_a_run_brings_up_its_own_server() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert found() == Finding.ok("Prefect", "PREFECT_API_URL isn't set: every run brings up a server of its own.")


def test_a_server_of_the_same_version_is_ok(server: BadServer) -> None:
    server.answers[VERSION] = [json(f'"{prefect.__version__}"')]
    finding = found()
    assert finding.status == "ok"
    assert finding.found == f"The Prefect server at {server.address('/api')} answers, version {prefect.__version__}."


def test_a_server_that_is_busy_is_waited_for_longer_than_one_that_nobody_reaches(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_check, "CONNECT_SECONDS", prefect_check.CONNECT_SECONDS / 10)

    def late(connection: socket.socket) -> None:
        time.sleep(2 * prefect_check.CONNECT_SECONDS)
        json(f'"{prefect.__version__}"')(connection)

    server.answers[VERSION] = [late]
    assert found().status == "ok"


@pytest.mark.parametrize(
    ("answer", "said", "do"),
    [
        (sends(status="401 Unauthorized"), "refuses us (status 401)", "PREFECT_API_AUTH_STRING"),
        (sends(status="404 Not Found"), "no API of Prefect's (status 404)", "http://host:4200/api"),
        (sends(b"<html>", content_type="text/html"), "no API of Prefect's (no JSON)", "http://host:4200/api"),
        (json('{"a": 1}'), "no API of Prefect's (no version)", "http://host:4200/api"),
        (sends(status="503 Service Unavailable"), "doesn't answer (status 503)", "prefect server start"),
    ],
)
def test_what_is_no_server_that_takes_us_fails(server: BadServer, answer: Answer, said: str, do: str) -> None:
    server.answers[VERSION] = [answer]
    finding = found()
    assert (finding.status, finding.fault) == ("failed", "reach")
    assert said in finding.found
    assert do in (finding.do or "")


def test_nobody_at_the_address_fails_and_credentials_in_it_arent_repeated() -> None:
    with temporary_settings({PREFECT_API_URL: "http://user:hunter2@127.0.0.1:9/api"}):
        finding = found()
    assert (finding.status, finding.fault) == ("failed", "reach")
    assert finding.found == "The Prefect server at http://127.0.0.1:9/api doesn't answer (ConnectError)."


def test_credentials_are_sent(server: BadServer) -> None:
    server.answers[VERSION] = [json(f'"{prefect.__version__}"')]
    with temporary_settings({PREFECT_API_AUTH_STRING: "admin:secret"}):
        assert found().status == "ok"
    assert server.requests[-1].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("server", "status"),
    [
        ("3.8.8", "ok"),
        ("3.8.9", "ok"),
        ("3.10.0", "ok"),
        ("3.8.7", "warning"),
        ("2.20.0", "failed"),
        ("4.0.0", "failed"),
    ],
)
def test_a_server_may_be_newer_and_not_of_another_major_version(server: str, status: str) -> None:
    finding = judge_prefect(PrefectFacts("http://prefect/api", "3.8.8", server))
    assert finding.status == status
    assert (finding.do is None) == (status == "ok")

"""The Prefect server that a command talks to: the one that PREFECT_API_URL names, else one of its own for as long."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from models.temporary_folder import temporary_folder
from tasks.child import start_child

START_SECONDS = 120  # a first start also creates the database
STOP_SECONDS = 5


class ServerError(Exception):
    """The Prefect server is out of reach. One sentence."""


@contextlib.contextmanager
def prefect_server() -> Iterator[str]:
    """Give the address of the server's API, and make this process use it.

    A server of the command's own writes its log to a file, and not over the terminal: when Prefect's temporary server
    stops, it prints tracebacks that are nobody's fault (Prefect 3.8.8). It is also out of reach of Ctrl-C, so that a
    run that is asked to stop can still record that it did; and it ends with the command, however that ends.

    Raises:
        ServerError: if the server that PREFECT_API_URL names doesn't answer, or one's own doesn't start; or if it goes
            away while it is needed, which is when a flow begins.
    """
    address = PREFECT_API_URL.value()
    if address:
        if not _healthy(address):
            raise ServerError(f"The Prefect server at {address} (PREFECT_API_URL) doesn't answer.")
        with _needed(address):
            yield address
        return
    with (
        temporary_folder() as folder,
        _own_server(folder) as own,
        temporary_settings({PREFECT_API_URL: own}),
        _needed(own),
    ):
        yield own
        APILogHandler().flush()  # or what was logged last is sent to a server that has gone


@contextlib.contextmanager
def _needed(address: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(f"The Prefect server at {address} doesn't answer any more.") from error


@contextlib.contextmanager
def _own_server(folder: Path) -> Iterator[str]:
    port = _free_port()
    address, log = f"http://127.0.0.1:{port}/api", folder / "server.log"
    options = [
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "error",
        "--lifespan",
        "on",
    ]
    environment = {
        **os.environ,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",
    }
    with log.open("wb") as output:
        process = start_child(
            "uvicorn",
            *options,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(address):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(errors="replace").strip().splitlines()
                raise ServerError(
                    f"Prefect's temporary server didn't start: {lines[-1] if lines else 'it said nothing'}."
                )
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address.rstrip('/')}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])

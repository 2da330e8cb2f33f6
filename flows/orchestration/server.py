"""The Prefect server that a command talks to: the one that a person's settings name, else one of its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import prefect
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.orchestration.ending import ending
from flows.orchestration.prefect_settings import LOOPBACK, ServerError, environment_of_our_own, nobodys_settings
from models.files.cache_file import cache_folder
from models.files.temporary_folder import temporary_folder
from models.files.whole_file import appearing_whole
from tasks.doctor.prefect_check import judge_prefect, read_prefect
from tasks.processes.child import start_child

START_SECONDS = 120  # of a server that lives and doesn't answer yet: a first start also creates the database
STOP_SECONDS = 5
KEPT_LINES, SHOWN_LINES = 200, 3  # of what a server says that didn't start, where none of them names an error
DATABASE = "prefect.db"


UNWATCHED = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
"""Heartbeats tell a server's automations that a run still lives; a server that ends with the run has none, and for what
sends them Prefect (3.8.8) waits up to a second at the end of each run."""


@contextlib.contextmanager
def prefect_server() -> Iterator[str]:
    """Give the address of the server's API, and make this process use it.

    Raises:
        ServerError: if the server that PREFECT_API_URL names can't be used, or one's own doesn't start; or if it goes
            away while it is needed, which is when a flow begins.
    """
    address = PREFECT_API_URL.value()
    if address:
        finding = judge_prefect(read_prefect())
        if finding.status == "failed":
            raise ServerError(f"{finding.found} {finding.do}")
        with _needed(address):
            yield address
        return
    with (
        temporary_folder() as folder,
        own_server(folder) as own,
        nobodys_settings(folder),
        temporary_settings({PREFECT_API_URL: own, **UNWATCHED}),
        _needed(own),
    ):
        try:
            yield own
        finally:
            APILogHandler().flush()  # or what was logged last is sent to a server that has gone
            ending.is_server_gone = True


@contextlib.contextmanager
def _needed(address: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise ServerError(f"The Prefect server at {address} answers with status {status}.") from error
    except httpx.HTTPError as error:
        raise ServerError(f"The Prefect server at {address} doesn't answer any more.") from error


@contextlib.contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """Run a server whose database is in `folder`; give the address of its API.

    It works with none of the person's settings, and doesn't write over the terminal: when Prefect's temporary server
    stops, it prints tracebacks that are nobody's fault (Prefect 3.8.8). It is also out of reach of
    Ctrl-C, so that a run that is asked to stop can still record that it did; and it ends with the command, however that
    ends.

    Raises:
        ServerError: if it doesn't start, with what it said.
    """
    database = folder / DATABASE
    try:
        bring_empty(database)
        with _listening() as listening:
            port = listening.getsockname()[1]
            process = start_child(
                "uvicorn",
                *("--factory", "prefect.server.api.server:create_app", "--fd", str(listening.fileno())),
                *("--log-level", "error", "--lifespan", "on"),
                env=environment_of_our_own(folder),
                pass_fds=(listening.fileno(),),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError as error:
        raise ServerError(f"Prefect's temporary server can't be started: {error}.") from error
    said: deque[str] = deque(maxlen=KEPT_LINES)
    hearing = threading.Thread(target=_hear, args=(process, said), daemon=True)
    hearing.start()
    try:
        address = f"http://{LOOPBACK}:{port}/api"
        if trouble := _trouble(address, process):
            process.kill()
            hearing.join(STOP_SECONDS)
            raise ServerError(f"Prefect's temporary server {trouble}: {_error_of(said)}{_remedy(said, folder)}")
        _keep_empty(database)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening() -> socket.socket:
    """Return a port of this machine that nobody else can take any more before the server has it."""
    listening = socket.socket()
    try:
        listening.bind((LOOPBACK, 0))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it for sockets of its own
    except OSError:
        listening.close()
        raise
    return listening


def _hear(process: subprocess.Popen[bytes], said: deque[str]) -> None:
    """Keep the last lines of what a process says, in memory: a disk that is full may be what it speaks of."""
    assert process.stdout is not None
    with process.stdout as lines:
        said.extend(line.decode(errors="replace").strip() for line in lines)


def _trouble(address: str, process: subprocess.Popen[bytes]) -> str | None:
    """Wait until a server answers; say what is wrong with one that doesn't."""
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while not _is_healthy(client, address):
            if process.poll() is not None:
                return "didn't start"
            if time.monotonic() > deadline:
                return f"hasn't answered in {START_SECONDS} seconds"
            time.sleep(0.1)
    return None


def _is_healthy(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(f"{address}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _error_of(said: Iterable[str]) -> str:
    """Return the last error that a server named, else its last lines."""
    lines = [line for line in said if line]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*", line)]
    return " / ".join(errors[-1:] or lines[-SHOWN_LINES:] or ["it said nothing"]).rstrip(".") + "."


def _remedy(said: Iterable[str], folder: Path) -> str:
    """Return what to do about it, where its database can't be written."""
    if any("sqlite3.OperationalError" in line for line in said):
        return f" Its database is in {folder.parent}: make room there, or set TMPDIR to another folder."
    return ""


def _empty() -> Path:
    """Return a database as a server creates it: that takes half of the time that a first start takes."""
    return cache_folder() / f"prefect-{prefect.__version__}.db"


def bring_empty(database: Path) -> None:
    """Begin with the database of an earlier server that nobody had told anything yet, where one was kept."""
    with contextlib.suppress(OSError):
        shutil.copyfile(_empty(), database)
    if database.exists() and not _is_whole(database):
        database.unlink()


def _is_whole(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(database)) as opened:
            return bool(opened.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def _keep_empty(database: Path) -> None:
    """Keep the database of a server that nobody has told anything yet; a read-only home costs time, nothing else."""
    kept = _empty()
    if kept.exists():
        return
    with contextlib.suppress(OSError, sqlite3.Error):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(database)) as opened, appearing_whole(kept) as copy:
            copy.write(opened.serialize())

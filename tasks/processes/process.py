"""Processes: who works on a store, and whether it still lives.

A process that edits the catalogue writes down who it is. Whoever finds that later, on the same machine, can tell
whether it still runs; of a process on another machine nobody can, and a person has to say so.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

THREADS = 16  # requests to a store at a time


@dataclass(frozen=True)
class Owner:
    """One process among all that ever ran."""

    host: str  # its name, for people
    boot: str  # of the machine: the same process numbers come again after the next one
    namespace: str  # of its process number: containers on one machine count for themselves
    pid: int
    started: float  # seconds since the epoch or since boot, as the system counts them: told apart, never compared

    @property
    def sentence(self) -> str:
        """Which process this is, for a person."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Process:
    """What the editing of a catalogue takes from the process that it happens in; a simulation gives its own."""

    owner: Owner
    is_alive: Callable[[Owner], bool | None]
    """Says whether a process still runs; None where that can't be known from here."""
    new_name: Callable[[], str]
    """Gives a name that nobody else was ever given."""
    threads: Callable[[], AbstractContextManager[Executor]]
    pause: Callable[[float], object]


def this_process() -> Process:
    """Return the process that this runs in."""
    return Process(
        owner=owner_of(psutil.Process()),
        is_alive=is_alive,
        new_name=partial(secrets.token_hex, 6),
        threads=partial(ThreadPoolExecutor, THREADS, "store"),
        pause=time.sleep,
    )


def owner_of(process: psutil.Process) -> Owner:
    """Return who a process of this machine is."""
    return Owner(socket.gethostname(), _boot(), _namespace(), process.pid, _started(process))


def is_alive(owner: Owner) -> bool | None:
    """Say whether a process still runs; None if it is another machine's, or in another container of this one."""
    if (owner.boot, owner.namespace) != (_boot(), _namespace()) or not owner.boot:
        return None
    try:
        return _started(psutil.Process(owner.pid)) == owner.started
    except psutil.NoSuchProcess:
        return False


def _started(process: psutil.Process) -> float:
    """Return when a process began, by a clock that nobody sets: ticks since boot, where Linux tells them."""
    try:
        # After the name in brackets, which may hold spaces: state is field 3, the start field 22 (proc_pid_stat(5)).
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends between the opening and the reading
        return float(process.create_time())
    return float("-inf") if fields[0] in "ZX" else float(fields[19])  # a zombie does nothing any more


def _boot() -> str:
    """Name this boot of this machine; empty where the system doesn't say, and then no process is ever called dead."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""

"""Whole runs without a model on any store: the simulation's commands, each in a process of its own."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.catalogue.catalogue import read_catalogue
from tasks.ledger.run import Run
from tasks.processes.process import Owner, Process, this_process
from tasks.stores.store import Store
from tests.simulation import actors
from tests.simulation.actors import Command

DAY = 86_400.0


def do(store: Store, *commands: Any) -> None:
    """Give commands, one after another."""
    for command in commands:
        command(store, this_process())


def rows(store: Store) -> dict[str, dict[str, Any]]:
    """The catalogue's rows, by id."""
    return {row["id"]: row for row in read_catalogue(store).table.to_pylist()}


def key_of(store: Store, row_id: str) -> str:
    return str(rows(store)[row_id]["key"])


def paths(store: Store, *places: str) -> set[str]:
    """Everything below these prefixes."""
    return {one.path for place in places or ("",) for one in store.listing(place)}


def aged(store: Store, days: float, *prefixes: str) -> None:
    """Let everything below these prefixes of a folder have been written so long ago."""
    then = time.time() - days * DAY
    for path in paths(store, *prefixes):
        os.utime(Path(store.uri) / path, (then, then))


class Stops(Exception):  # noqa: N818
    """The run's process ends here."""


def stopped(monkeypatch: pytest.MonkeyPatch, store: Store, command: Command, *, before: str) -> None:
    """Run a command up to the settling of its outcomes, or to its first ledger, and let its process end there."""

    def stop(*_: Any, **__: Any) -> None:
        raise Stops

    with monkeypatch.context() as patch:
        if before == "settle":
            patch.setattr(actors, "settle", stop)
        else:
            patch.setattr(Run, "commit", stop)
        with pytest.raises(Stops):
            command(store, dead())  # type: ignore[arg-type]  # see `whole_runs`


def dead() -> Process:
    """A process of this machine that has ended."""
    process = this_process()
    return replace(process, owner=replace(process.owner, pid=2**22 + 1))


def elsewhere() -> Process:
    """A process of another machine, of which nobody here can tell whether it lives."""
    return replace(this_process(), owner=Owner("elsewhere", "another boot", "", 17, 1.0))

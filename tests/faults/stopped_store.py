"""A store whose writes stop after some, as if the process had been killed there, and what it leaves then."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.processes import process
from tasks.stores.folder_store import FolderStore
from tasks.stores.store import StoreError

WRITES = ("put_once", "adopt_or_put", "replace", "overwrite", "copy", "delete")
NOBODY = 2**22 + 1  # more than any process number of Linux


class Killed(StoreError):  # noqa: N818
    """The process is gone, as far as its store can tell."""


@dataclass
class Writes:
    """How many were let through, and whether there was one more."""

    most: int
    done: int = 0
    stopped: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> None:
        with self.turn:
            if self.done == self.most:
                self.stopped = True
                raise Killed("The process was killed.")
            self.done += 1


@contextmanager
def killed_after(most: int) -> Iterator[Writes]:
    """Let so many writes to any folder store through; every later one, and what would come after it, is none.

    What writes meanwhile is a process that nobody finds alive afterwards.
    """
    writes = Writes(most)
    with _each_write(lambda write: _counted(write, writes)):
        yield writes


def left_by_kills(folder: Path, place: Path, doing: Callable[[], object], *, first: int, step: int) -> list[Path]:
    """Do something once to the folder store in `folder`; give what whoever is killed on the way leaves, in `place`.

    These are copies of the folder as it is before the writes of these numbers, as `killed_after` counts them, and at
    the end. So each kill costs a copy, and not all that comes before it.
    """
    copies: list[Path] = []
    number, turn = itertools.count(), threading.RLock()

    def keep() -> None:
        copies.append(place / str(len(copies)))
        _copy(folder, copies[-1])

    def kept(write: Any) -> Any:
        @functools.wraps(write)
        def after_keeping(*args: Any, **kwargs: Any) -> Any:
            with turn:
                if (now := next(number)) >= first and (now - first) % step == 0:
                    keep()
                return write(*args, **kwargs)

        return after_keeping

    with _each_write(kept):
        doing()
    keep()
    return copies


def _copy(folder: Path, to: Path) -> None:
    """Copy a folder with its hard links."""
    known: dict[int, str] = {}

    def copy(source: str, target: str) -> str:
        if (inode := os.stat(source).st_ino) in known:  # noqa: PTH116  as `copytree` names it
            os.link(known[inode], target)
        else:
            known[inode] = shutil.copy2(source, target)
        return target

    shutil.copytree(folder, to, copy_function=copy)


@contextmanager
def _each_write(changed: Callable[[Any], Any]) -> Iterator[None]:
    """Change what writes to any folder store, for a process that nobody finds alive afterwards."""
    owner_of = process.owner_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "owner_of", lambda one: replace(owner_of(one), pid=NOBODY))
        for name in WRITES:
            patch.setattr(FolderStore, name, changed(getattr(FolderStore, name)))
        yield


def _counted(write: Any, writes: Writes) -> Any:
    @functools.wraps(write)
    def counted(*args: Any, **kwargs: Any) -> Any:
        writes.take()
        return write(*args, **kwargs)

    return counted

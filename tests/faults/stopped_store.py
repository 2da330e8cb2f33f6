"""A store whose writes stop after some, as if the process had been killed there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    writes, owner_of = Writes(most), process.owner_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "owner_of", lambda one: replace(owner_of(one), pid=NOBODY))
        for name in WRITES:
            patch.setattr(FolderStore, name, _counted(getattr(FolderStore, name), writes))
        yield writes


def _counted(write: Any, writes: Writes) -> Any:
    @functools.wraps(write)
    def counted(*args: Any, **kwargs: Any) -> Any:
        writes.take()
        return write(*args, **kwargs)

    return counted

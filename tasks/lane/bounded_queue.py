"""What one stage hands to the next while both run: a few things at a time, and either side can give up."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WAIT = 0.2  # seconds between looks at whether the other side gave up


class QueueAbandoned(Exception):  # noqa: N818
    """The other side of a stream ended early: its own error is the one to report."""


class BoundedQueue(Generic[T]):
    """A queue between two threads that holds a few things, and that either side can give up.

    The writer calls `put` and, at the end, `close`; when it can't go on, `abandon`. The reader iterates; when it can't
    go on, it calls `abandon`. Whoever is left on the other side gets `QueueAbandoned` instead of waiting for ever.
    """

    def __init__(self, room: int) -> None:
        self._things: queue.Queue[T | None] = queue.Queue(room)
        self._abandoned = False

    def put(self, thing: T) -> None:
        """Hand one thing over; waits while the stream is full."""
        self._offer(thing)

    def close(self) -> None:
        """Say that everything was handed over."""
        self._offer(None)

    def abandon(self) -> None:
        """Give up, on either side."""
        self._abandoned = True

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                thing = self._things.get(timeout=WAIT)
            except queue.Empty:
                if self._abandoned:
                    raise QueueAbandoned from None
                continue
            if thing is None:
                return
            yield thing

    def _offer(self, thing: T | None) -> None:
        while not self._abandoned:
            try:
                self._things.put(thing, timeout=WAIT)
            except queue.Full:
                continue
            return
        raise QueueAbandoned

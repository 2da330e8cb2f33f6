"""Source pictures into arrays, by processes that may fail.

with Decoder(workers=2) as decoder:
    picture = decoder.decode(data)

A run opens several decoders, one to plan and one a lane; with `keeps`, they hand their processes on to one another.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from types import TracebackType

from tasks.sources.decoder_process import Header
from tasks.sources.decoder_worker import SourcePicture, Worker
from tasks.sources.kept_workers import kept
from tasks.sources.pixels import Limits


class Decoder:
    """A few processes that decode pictures, kept warm; safe to use from many threads.

    A process that crashes, hangs or takes too much fails the picture it was given, and the next one starts afresh.
    """

    def __init__(self, workers: int = 2, limits: Limits | None = None, *, keeps: bool = False) -> None:
        """Decode up to `workers` pictures at once; a process is started when it is needed first.

        With `keeps`, it takes those that an earlier decoder of the same limits left, and leaves its own to a later one.
        """
        self.limits, self.keeps = limits or Limits(), keeps
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        self._workers = workers
        for _ in range(workers):
            self._idle.put(None)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, or leave them to a later decoder, after the pictures they are at."""
        for worker in [self._idle.get() for _ in range(self._workers)]:
            if worker is not None and self.keeps:
                kept.keep(worker)
            elif worker is not None:
                worker.end()
            self._idle.put(None)

    def decode(self, data: bytes) -> SourcePicture:
        """Return the pixels of a picture, and what is known of it.

        Raises:
            SourceError: it is of a format that isn't read, animated, too large in any way, or corrupt.
            OSError: no process can be started.
        """
        with self._worker() as worker:
            return worker.decode(data)

    def measure(self, data: bytes) -> Header:
        """Return the size of a picture, upright, and its format, from its header: its pixels may yet be damaged.

        Raises:
            SourceError: as `decode`, for what a header shows.
            OSError: no process can be started.
        """
        with self._worker() as worker:
            return worker.measure(data)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get()
        try:
            if worker is not None and worker.gone:  # somebody ended it while it had nothing to do
                worker.end()
                worker = None
            if worker is None:
                worker = (kept.take(self.limits) if self.keeps else None) or Worker(self.limits)
            yield worker
        finally:
            if worker is not None and worker.gone:
                worker.end()
                worker = None
            self._idle.put(worker)

"""Processes that decode pictures and have nothing to do, between one decoder and the next."""

from __future__ import annotations

import atexit
import os
import threading

from tasks.sources.decoder_worker import Worker, inherited
from tasks.sources.pixels import Limits

MOST_KEPT = 4  # of them, 20 MB each


class KeptWorkers:
    """The processes that decoders of this process left to later ones; they end with it."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._changing = threading.Lock()

    def keep(self, worker: Worker) -> None:
        """Keep a worker that has nothing to do; of more than enough, end the one that had nothing to do longest."""
        with self._changing:
            self._idle.append(worker)
            if len(self._idle) > MOST_KEPT:
                self._idle.pop(0).end()

    def take(self, limits: Limits) -> Worker | None:
        """Give a worker with these limits and the environment of now, if there is one."""
        wanted = (limits, inherited())
        with self._changing:
            for worker in [worker for worker in self._idle if worker.gone]:
                self._idle.remove(worker)
                worker.end()
            for worker in reversed(self._idle):
                if (worker.limits, worker.environment) == wanted:
                    self._idle.remove(worker)
                    return worker
        return None

    def end(self) -> None:
        """End them all."""
        with self._changing:
            while self._idle:
                self._idle.pop().end()

    def forget(self) -> None:
        """Leave them to the parent after a fork: they aren't this process's."""
        self._changing = threading.Lock()
        for worker in self._idle:
            worker.process.returncode = 0  # or Python warns that a child of ours still runs
        self._idle.clear()


kept = KeptWorkers()
atexit.register(kept.end)
os.register_at_fork(after_in_child=kept.forget)

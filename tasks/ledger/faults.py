"""Faults: exceptions that a lane went on from. Each is told once, with its traceback, and counted."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from tasks.ledger.run import Run, write_json
from tasks.stores.store import Store, at_once
from tasks.stores.stored_table import naming

ROOMS = ("tasks", "models")  # whose modules log as errors what they go on from, with its traceback
READ_AT_ONCE = 64  # lanes' files
MOST = 100  # faults that a lane tells apart; where there are more, they have one cause


@dataclass
class Fault:
    """An exception that was raised at one place in the code and caught at another, however often."""

    what: str  # could not be done, a sentence
    kind: str  # of exception
    where: str  # it was raised: file and line
    traceback: list[str]  # of the first one, in lines
    times: int = 1


class Faults(logging.Handler):
    """Collects the faults of a lane: the first of each kind goes to the run's log, and all to a file in the store.

    Prefect is given tracebacks without what the exceptions say, which may quote a prompt: that is for the store alone.
    """

    def __init__(self, store: Store, run: Run, lane: int) -> None:
        """Go on with what an earlier start of this lane collected; called inside the lane's task."""
        from prefect import get_run_logger  # what was noted is also read where nobody needs Prefect

        super().__init__()
        self.store, self.path = store, faults_path(run, lane)
        self.found = read_faults(store, run, lane)
        self._log = get_run_logger()
        self._saved = self._times

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record that has a traceback, and leave any other to whom it would go to without this handler."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or record.levelno < logging.ERROR:
            logging.root.callHandlers(record)
            return
        what, kind, where = record.getMessage(), type(error).__name__, _where(error)
        for fault in self.found:
            if (fault.what, fault.kind, fault.where) == (what, kind, where):
                fault.times += 1
                return
        if len(self.found) < MOST:
            lines = "".join(traceback.format_exception(error)).splitlines()
            self.found.append(Fault(what, kind, where, lines))
            frames = "".join(traceback.format_tb(error.__traceback__))
            self._log.error("%s What %s says is in %s.\n%s", what, kind, self.store.uri_of(self.path), frames)

    def save(self) -> None:
        """Write the lane's file, if there is anything new to say."""
        self.acquire()
        try:
            times, found = self._times, [asdict(fault) for fault in self.found]
        finally:
            self.release()
        if times > self._saved:
            write_json(self.store, self.path, found)
            self._saved = times

    @property
    def _times(self) -> int:
        return sum(fault.times for fault in self.found)


@contextmanager
def collected_faults(store: Store, run: Run, lane: int) -> Iterator[Faults]:
    """Collect the faults of a lane for as long as it works; what the exceptions say is in no other log meanwhile."""
    faults = Faults(store, run, lane)
    loggers = [logging.getLogger(room) for room in ROOMS]
    for logger in loggers:
        logger.addHandler(faults)
        logger.propagate = False
    try:
        yield faults
    finally:
        for logger in loggers:
            logger.propagate = True
            logger.removeHandler(faults)
        faults.save()


def faults_path(run: Run, lane: int) -> str:
    """Return where the faults of a lane lie in the store."""
    return run.path(f"lanes/{lane}.faults.json")


def read_faults(store: Store, run: Run, lane: int) -> list[Fault]:
    """Return the faults of a lane so far."""
    found = store.read(faults_path(run, lane))
    if found is None:
        return []
    with naming(store.uri_of(faults_path(run, lane)), "delete it; only what went wrong is told by it"):
        return [Fault(**fault) for fault in json.loads(found[0])]


def told_by_lanes(store: Store, run: Run) -> list[str]:
    """Return the faults of all lanes of a run, in sentences."""
    numbers = [lane["lane"] for lane in run.all_lanes(store)]
    of_lanes = at_once(lambda number: told(store, run, number), numbers, most=READ_AT_ONCE)
    return [sentence for sentences in of_lanes for sentence in sentences]


def told(store: Store, run: Run, lane: int) -> list[str]:
    """Return the faults of a lane, in sentences for a person: what failed, how often, and where its traceback is."""
    place = store.uri_of(faults_path(run, lane))
    return [
        f"{fault.what.rstrip('.')}, {fault.times} {'time' if fault.times == 1 else 'times'}: {fault.kind}; "
        f"its traceback is in {place}."
        for fault in read_faults(store, run, lane)
    ]


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""

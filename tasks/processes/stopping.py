"""How a run is asked to stop: between two batches, so that everything finished is stored."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WITHIN = 30.0  # seconds, from then on, in which a run ends
PATIENCE = 15.0  # of them, that the batch in hand has
SOON = 1e-6  # seconds: 0 would turn a timer off
ONE = 0.5  # seconds within which two signals are one: timeout(1) sends it to its child, and to the child's group
STOPPED = 130  # the exit code of what a person stopped
SHOW_CURSOR = "\x1b[?25h"  # a bar hides it

stop = threading.Event()
"""Set to make the lanes of this process stop after the batch in hand."""

_asked_at = 0.0  # when that was set, monotonic
_hears_signals = False  # they ask it to stop
_is_in_hand = False  # a batch is being made in the main thread, and may be given up


class Stopped(Exception):  # noqa: N818
    """A person or the system asked the run to stop; what is finished is stored."""


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; a second one does what it did before.

    A batch that takes too long from then on is given up: see `while_there_is_time`. A process has one timer: where
    whoever called this has set it, such as a Prefect flow that may take so long, they hear it all the same.
    """
    global _hears_signals
    stop.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    alarms, is_asked = _Alarms(), False
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def hear(number: int, _: FrameType | None) -> None:
        nonlocal is_asked
        if not is_asked:
            _note()
            is_asked = True
            alarms.set(PATIENCE)
        elif time.monotonic() - _asked_at >= ONE:
            _handle(before)
            signal.raise_signal(number)

    with alarms:
        _handle(dict.fromkeys(SIGNALS, hear))
        _hears_signals = True
        try:
            yield
        finally:
            _hears_signals = False
            _handle(before)


class _Alarms:
    """The process's one timer, for a run's own alarm, which gives up the batch in hand, and for the callers' alarms."""

    def __init__(self) -> None:
        self._own = self._callers = inf  # when they are due, monotonic
        self._again_after = 0.0  # seconds, where the callers' alarm repeats
        self._is_own_set = False  # and the timer with it: before that it is the callers'

    def __enter__(self) -> None:
        self._before = _handle({signal.SIGALRM: self._ring})

    def __exit__(self, *_: object) -> None:
        self._own = inf
        if self._is_own_set:
            self._wind()
        _handle(self._before)

    def set(self, seconds: float) -> None:
        """Have the batch in hand given up after so many seconds; once."""
        if self._is_own_set:  # the signal came twice at once, and the timer is no more the callers'
            return
        left, self._again_after = signal.getitimer(signal.ITIMER_REAL)
        now = time.monotonic()
        self._own, self._callers = now + seconds, now + left if left else inf
        self._is_own_set = True
        self._wind()

    def _wind(self) -> None:
        """Set the timer to what is due next."""
        due = min(self._own, self._callers)
        signal.setitimer(signal.ITIMER_REAL, 0 if due == inf else max(due - time.monotonic(), SOON))

    def _ring(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        is_own, is_theirs = now >= self._own, not self._is_own_set or now >= self._callers
        if is_own:
            self._own = inf
        if is_theirs and self._is_own_set:
            self._callers = now + self._again_after if self._again_after else inf
        if self._is_own_set:
            self._wind()
        if is_theirs:
            _handle(self._before)
            try:
                signal.raise_signal(signal.SIGALRM)
            finally:
                _handle({signal.SIGALRM: self._ring})
        if is_own and _is_in_hand:
            raise Stopped


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM interrupt what goes on, as Ctrl-C does, and a second one end the process.

    At every moment what is in the store is whole, so that nothing needs to be waited for.
    """
    stop.clear()

    def interrupt(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            if time.monotonic() - _asked_at >= ONE:
                _end()
            return
        _note()
        raise KeyboardInterrupt

    before = _handle(dict.fromkeys(SIGNALS, interrupt))
    try:
        yield
    finally:
        if not stop.is_set():  # or the process is about to end, and a second signal still means the same
            _handle(before)


def ask_to_stop() -> None:
    """Ask the run of this process to stop, from any of its threads, as a first signal does; once is enough."""
    if stop.is_set():
        return
    if _hears_signals:
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        _note()


def while_there_is_time(batches: Iterable[T]) -> Iterator[T]:
    """Give batches as they are made, and give up the one in hand where a run that was asked to stop waits too long.

    Raises:
        Stopped: if one was given up.
    """
    global _is_in_hand
    making = iter(batches)
    while True:
        _is_in_hand = threading.current_thread() is threading.main_thread()
        try:
            if stop.is_set() and time.monotonic() - _asked_at > PATIENCE:
                raise Stopped
            batch = next(making)
        except StopIteration:
            return
        finally:
            _is_in_hand = False
        yield batch


def _note() -> None:
    global _asked_at
    _asked_at = time.monotonic()
    stop.set()


def _end() -> NoReturn:
    said = "Ended at once. What was finished is stored; the same command goes on from there.\n"
    os.write(sys.stderr.fileno(), (f"{SHOW_CURSOR}{said}" if sys.stderr.isatty() else said).encode())
    os._exit(STOPPED)


def _handle(handlers: Mapping[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Handle signals so; return what handled them before."""
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}

"""How a run is asked to stop: between two batches, so that everything finished is stored."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WITHIN = 30.0  # seconds, from then on, in which a run ends
PATIENCE = 15.0  # of them, that the batch in hand has
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

    A batch that takes too long from then on is given up: see `while_there_is_time`.
    """
    global _hears_signals
    stop.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_: int, __: FrameType | None) -> None:
        _note()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        for number in SIGNALS:
            signal.signal(number, again)

    def again(number: int, _: FrameType | None) -> None:
        if time.monotonic() - _asked_at < ONE:
            return
        _handle({one: before[one] for one in SIGNALS})
        signal.raise_signal(number)

    def give_up(_: int, __: FrameType | None) -> None:
        if _is_in_hand:
            raise Stopped

    before = _handle({**dict.fromkeys(SIGNALS, ask), signal.SIGALRM: give_up})
    _hears_signals = True
    try:
        yield
    finally:
        _hears_signals = False
        if stop.is_set():
            signal.setitimer(signal.ITIMER_REAL, 0)
        _handle(before)


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

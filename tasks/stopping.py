"""How a run is asked to stop: between two batches, so that everything finished is stored."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

stop = threading.Event()
"""Set to make the lanes of this process stop after the batch in hand."""


class Stopped(Exception):  # noqa: N818
    """A person or the system asked the run to stop; what is finished is stored."""


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; a second one ends the process as it always does."""
    stop.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

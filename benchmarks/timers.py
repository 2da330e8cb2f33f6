"""Timers around calls of code that knows nothing of them: on the clock, and on the GPU where there is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch


class Timers:
    """Sums the seconds that calls took, over all threads.

    timers = Timers()
    with timers.open:
        timers.around(Encoding, "encode", "encode")
        ...
    timers.seconds["encode"], timers.calls["encode"]
    """

    def __init__(self) -> None:
        self.open = ExitStack()  # what puts the code back as it was
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def around(self, owner: Any, attribute: str, name: str | Callable[..., str]) -> None:
        """Time every call of `owner.attribute`; `name` may depend on its arguments."""
        called = getattr(owner, attribute)

        @wraps(called)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return called(*args, **kwargs)
            finally:
                self.add(name if isinstance(name, str) else name(*args, **kwargs), time.perf_counter() - began)

        self.open.enter_context(patch.object(owner, attribute, timed))

    def add(self, name: str, seconds: float) -> None:
        """Count one call."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.calls[name] = self.calls.get(name, 0) + 1


class Moment:
    """When the GPU got to this point of what it was asked for; without a GPU, when the program did."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True) if torch.cuda.is_available() else None
        if self.event is not None:
            self.event.record()
        self.clock = time.perf_counter()

    def until(self, later: Moment) -> float:
        """Seconds from here to `later`, which the GPU must have reached."""
        if self.event is not None and later.event is not None:
            return float(self.event.elapsed_time(later.event)) / 1000
        return later.clock - self.clock

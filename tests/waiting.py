"""Waiting for what happens in another process or thread, however busy the machine is."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds


def wait_for(what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until `what` is true, and fail if that takes longer."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"It isn't so after {seconds} s."
        time.sleep(0.02)

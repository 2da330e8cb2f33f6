"""What a command has prepared before Prefect knows of its run: planning needs no server that somebody could watch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tasks.runs.prepare import Prepared, RunRequest
from tasks.stores.store import StoreError


@dataclass
class Beginning:
    """A run that is prepared, until its flow takes it."""

    request: RunRequest
    prepared: Prepared
    started_at: datetime  # of its preparing


_waiting: list[Beginning] = []
"""What the flow of this process is to go on with; at most one."""


@contextmanager
def handing_over(beginning: Beginning) -> Iterator[None]:
    """Have the flow that is run in this block go on from here; where none does, others may prune the store again."""
    _waiting.append(beginning)
    try:
        yield
    finally:
        if beginning in _waiting:
            _waiting.remove(beginning)
            with contextlib.suppress(StoreError):
                beginning.prepared.leave()


def taken_over(request: RunRequest) -> Beginning | None:
    """Take what was prepared for this request, if anything was; whoever takes it sees to its end."""
    found = next((one for one in _waiting if one.request == request), None)
    if found is not None:
        _waiting.remove(found)
    return found

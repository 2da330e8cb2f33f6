"""Batches through a device: smaller ones where one fails, so that only the rows that are to blame do."""

import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from models.failure import Cause, blame, first_line

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done(Generic[Made]):
    """A batch that went through."""

    batch: list[int]
    made: list[Made]  # one for each row of the batch
    seconds: float  # a row's share


@dataclass(frozen=True)
class Blamed:
    """A row that failed by itself."""

    row: int
    cause: Cause
    line: str  # the first line of the exception's message
    seconds: float


def attempt(
    batches: Iterable[list[int]],
    make: Callable[[list[int]], list[Made]],
    sizes: MutableMapping[Key, int],
    key: Key,
    device: torch.device,
    make_room: Callable[[], bool] = lambda: False,
) -> Iterator[Done[Made] | Blamed]:
    """Make batches one after another, in order; every row ends in exactly one `Done` or `Blamed`.

    A batch that runs out of memory is halved, and where a row by itself does, room is made for it, as long as there is
    any to make. One that fails in another way is made again row by row, to find the guilty one.

    Args:
        make: from the rows of a batch to what was made of each.
        sizes: how many rows go together; the size that a batch was halved to is remembered here under `key`.
        make_room: gives back some of the device's memory; False if there is nothing more to give.

    Raises:
        DeviceLost: as `blame`.
    """
    queue = deque(batches)
    while queue:
        batch = queue.popleft()
        if len(batch) > sizes[key]:  # it shrank since the rows were cut
            queue.extendleft((batch[sizes[key] :], batch[: sizes[key]]))
            continue
        started = time.perf_counter()
        error: Exception | None = None
        made: list[Made] = []
        try:
            made = make(batch)
        except Exception as caught:  # noqa: BLE001 one bad row never takes another with it
            error = caught
        seconds = (time.perf_counter() - started) / len(batch)
        if error is None:
            yield Done(batch, made, seconds)
            continue
        cause, line = blame(error), first_line(error)
        level = logging.WARNING if cause == "out_of_memory" else logging.ERROR
        logger.log(level, "A batch of %d rows failed (%s).", len(batch), cause, exc_info=error)
        error = None  # its traceback keeps the batch's tensors alive
        _clean_up(device)
        if len(batch) == 1 and cause == "out_of_memory" and make_room():
            _clean_up(device)
            queue.appendleft(batch)
        elif len(batch) == 1:
            yield Blamed(batch[0], cause, line, seconds)
        elif cause == "out_of_memory":
            sizes[key] = len(batch) // 2  # remembered for the batches to come
            queue.appendleft(batch)
        else:
            queue.extendleft([row] for row in reversed(batch))


def _clean_up(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

"""The queue of a run's shards: lanes take them as they come free, and what a lost lane held goes to others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol

Nothing = Literal["wait", "over"]
"""What a lane that asks for a shard is told where it gets none: others hold what is left, or nothing is left."""


class ShardSource(Protocol):
    """What a lane takes its shards from."""

    def take(self, *, ahead: bool = False) -> int | Nothing:
        """Give the next shard; `ahead` asks for one to prepare while another one is being made."""

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written."""


class ShardQueue:
    """The shards of a run that are left, and which lane holds which; safe to use from several threads.

    Nobody is given a shard ahead that another lane could begin now: with fewer waiting than there are lanes, each is
    left to whoever comes free first. So lanes end within the time of one shard.
    """

    def __init__(self, shards: Iterable[int], lanes: int = 1) -> None:
        """`shards` are handed out in their order, and looked at only as far as lanes have come."""
        self.lanes = lanes
        self._coming = iter(shards)
        self._waiting: deque[int] = deque()
        self._held: dict[int, int] = {}  # shard → the lane that holds it
        self._changing = threading.Lock()

    def take(self, lane: int, *, ahead: bool = False) -> int | Nothing:
        """Give a lane the next shard."""
        with self._changing:
            self._look_ahead()
            if self._waiting and not (ahead and len(self._waiting) < self.lanes):
                shard = self._waiting.popleft()
                self._held[shard] = lane
                return shard
            others = any(holder != lane for holder in self._held.values())
            return "wait" if self._waiting or others else "over"

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written, whoever wrote it."""
        with self._changing:
            self._held.pop(shard, None)

    def give_back(self, lane: int) -> list[int]:
        """Let others have what a lane holds, before all that waits; returns what that is."""
        with self._changing:
            back = [shard for shard, holder in self._held.items() if holder == lane]
            for shard in back:
                del self._held[shard]
            self._waiting.extendleft(reversed(back))
            return back

    @property
    def is_over(self) -> bool:
        """Whether no shard waits, and none is held."""
        with self._changing:
            self._look_ahead()
            return not self._waiting and not self._held

    def _look_ahead(self) -> None:
        while len(self._waiting) < self.lanes:
            try:
                self._waiting.append(next(self._coming))
            except StopIteration:
                return


class OnlyLane:
    """The shards of a run that has one lane, in this process."""

    def __init__(self, shards: Iterable[int]) -> None:
        self._queue = ShardQueue(shards)

    def take(self, *, ahead: bool = False) -> int | Nothing:
        """Give the next shard."""
        return self._queue.take(0, ahead=ahead)

    def end(self, shard: int) -> None:
        """Note that a shard's ledger is written."""
        self._queue.end(shard)

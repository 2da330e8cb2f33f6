"""The dispatcher: it hands a run's shards to lanes of other processes, and knows how each of them gets on.

It knows nothing of Ray, and of time what its clock says. A lane's process is a life of that lane: when one is lost,
what it held goes to others, and the lane begins its next life, perhaps in another place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tasks.lane.shard_queue import Nothing, ShardQueue
from tasks.outcome import Outcome

MOST_LOSSES = 3  # of lanes in one place, after which that place is left out
SILENT_AFTER = 30.0  # seconds without a word, in which a living process says one every second


@dataclass(frozen=True)
class Place:
    """Where a lane works: one GPU of a machine, or its cores."""

    node: str  # by the id that its cluster gives it
    machine: str  # its name, for people
    device: str  # "GPU 2", or "CPU"

    @property
    def sentence(self) -> str:
        """Where that is, for a person."""
        return f"{self.device} of {self.machine}"


@dataclass(eq=False)  # each is one of its own
class Life:
    """A lane's process."""

    number: int
    lane: int
    place: Place
    heard: float  # when it said something last
    moved: float  # when it got on last
    is_over: bool = False  # it was lost, or has no more to do


@dataclass(frozen=True)
class LostLife:
    """A lane's process that was lost before it had no more to do."""

    life: int
    lane: int
    sentence: str  # what became of it


@dataclass(frozen=True)
class LaneHistory:
    """What became of a lane."""

    lane: int
    machine: str  # where it was in its last life
    place: str  # on that machine: "GPU 2", or "CPU"
    rows: int  # that ended in it
    restarts: int


@dataclass(frozen=True)
class Progress:
    """What has happened since the dispatcher was looked at last."""

    outcomes: list[Outcome]
    lost: list[LostLife]
    stalled: list[int]  # lanes that don't get on, and whose processes are to be ended
    is_over: bool  # every shard has ended
    left_out: dict[Place, str]  # places that failed too often, and what the last one failed of
    lanes_left_out: list[int]  # lanes that can only work in such places


@dataclass
class Dispatcher:
    """Hands shards to lanes; called by one at a time."""

    shards: Sequence[int]
    lanes: int
    stalled_after: float  # seconds
    silent_after: float = SILENT_AFTER
    clock: Callable[[], float] = time.monotonic
    _lives: list[Life] = field(default_factory=list)
    _losses: Counter[Place] = field(default_factory=Counter)
    _why: dict[Place, str] = field(default_factory=dict)
    _rows: Counter[int] = field(default_factory=Counter)
    _told: list[Outcome] = field(default_factory=list)
    _lost: list[LostLife] = field(default_factory=list)  # and not told of
    _left_out: set[int] = field(default_factory=set)  # lanes
    _is_stopping: bool = False

    def __post_init__(self) -> None:
        self._queue = ShardQueue(self.shards, self.lanes)

    def expect(self, lanes: int) -> None:
        """Note that there are so many lanes now."""
        self._queue.lanes = self.lanes = lanes

    def begin(self, lane: int, place: Place) -> int | None:
        """Begin a lane's next life; returns its number, or None where nobody is to work in that place any more."""
        before = next((life for life in reversed(self._lives) if life.lane == lane), None)
        if before is not None:
            self._lose(before, "it ended by itself or was killed", counts=True)
        if self._losses[place] >= MOST_LOSSES:
            self._left_out.add(lane)
            return None
        self._left_out.discard(lane)
        self._lives.append(Life(len(self._lives), lane, place, self.clock(), self.clock()))
        return len(self._lives) - 1

    def refuse(self, lane: int, place: Place, why: str) -> None:
        """Hear that no lane can work in a place, before any has begun there."""
        self._losses[place], self._why[place] = MOST_LOSSES, why
        self._left_out.add(lane)

    def take(self, life: int, *, ahead: bool = False) -> int | Nothing:
        """Give a lane the next shard; what is lost gets none."""
        if self._lives[life].is_over:
            return "wait"
        self._moved(life)
        return self._queue.take(life, ahead=ahead)

    def end(self, life: int, shard: int) -> None:
        """Note that a shard's ledger is written."""
        self._moved(life)
        self._queue.end(shard)

    def tell(self, life: int, outcomes: Sequence[Outcome]) -> None:
        """Note what became of some rows."""
        self._moved(life)
        self._rows[self._lives[life].lane] += len(outcomes)
        self._told += outcomes

    def beat(self, life: int) -> str:
        """Hear that a process lives; tells it to "go on", to "stop", or that it is "lost" and is to end."""
        self._lives[life].heard = self.clock()
        if self._lives[life].is_over:
            return "lost"
        return "stop" if self._is_stopping else "go on"

    def leave(self, life: int, failed_of: str | None) -> None:
        """Hear that a process ends before its time: its device failed, or its machine is taken away."""
        why = failed_of or "its machine is being taken away"
        self._lose(self._lives[life], why, counts=failed_of is not None)

    def stop(self) -> None:
        """Have all lanes stop."""
        self._is_stopping = True

    def look(self) -> Progress:
        """Say how the lanes get on."""
        stalled = []
        for life in self._living():
            if self.clock() - life.heard > self.silent_after:
                # A machine that is gone, most often.
                self._lose(life, f"nothing was heard of it for {self.silent_after:g} seconds", counts=False)
            elif self.clock() - life.moved > self.stalled_after:
                self._lose(life, f"it got on with nothing for {self.stalled_after / 60:g} minutes", counts=True)
                stalled.append(life.lane)
        out = {place: self._why[place] for place, losses in self._losses.items() if losses >= MOST_LOSSES}
        told, self._told = self._told, []
        lost, self._lost = self._lost, []
        return Progress(told, lost, stalled, self._queue.is_over, out, sorted(self._left_out))

    def living(self) -> int:
        """Say how many lanes have a process that works."""
        return len(self._living())

    def finish(self, life: int) -> None:
        """Hear that a process has no more to do."""
        self._lives[life].is_over = True
        self._queue.give_back(life)

    def give_up(self) -> None:
        """Lose what still lives: nobody waits for it any longer."""
        for life in self._living():
            self._lose(life, "it didn't end in time", counts=False)

    def histories(self) -> list[LaneHistory]:
        """Say what became of each lane that began."""
        last = {life.lane: life.place for life in self._lives}
        lives = Counter(life.lane for life in self._lives)
        return [
            LaneHistory(lane, place.machine, place.device, self._rows[lane], lives[lane] - 1)
            for lane, place in sorted(last.items())
        ]

    def _living(self) -> list[Life]:
        return [life for life in self._lives if not life.is_over]

    def _moved(self, life: int) -> None:
        self._lives[life].moved = self._lives[life].heard = self.clock()

    def _lose(self, life: Life, why: str, *, counts: bool) -> None:
        """Give what a process held to others; where its place may be why it was lost, that counts against the place."""
        if life.is_over:
            return
        life.is_over = True
        back = self._queue.give_back(life.number)
        went = ", and what it held went to other lanes" if back else ""
        self._lost.append(LostLife(life.number, life.lane, f"This process was lost because {why.rstrip('.')}{went}."))
        if counts:
            self._losses[life.place] += 1
            self._why[life.place] = f"it failed {MOST_LOSSES} times, the last time because {why}"

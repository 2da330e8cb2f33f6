"""Schedules: which actor takes the next step, which one dies there, and whose operation fails.

    play(actors, choose)                 one schedule, as `choose` wants it
    for choices in every(play_one, …)    all schedules with few interruptions, one after another

An actor is a function that runs in a greenlet of its own. Before each of its operations on a store it gives way, so
that any other actor may run there, its own process may die there, or the operation may fail before or after its effect.
A schedule is the list of what was chosen at each such point: the same list plays the same schedule again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from greenlet import getcurrent, greenlet

Move = Literal["go", "kill", "lose request", "lose answer", "ask again"]
LOST_ANSWERS: tuple[Move, ...] = ("lose answer", "ask again")
"""The operation has had its effect: it fails all the same, or the store's client repeats it, which takes a while."""
Choice = tuple[str, Move]  # an actor's name, and what happens to it next
Choose = Callable[[Sequence[Choice]], int]
"""Picks one of the choices; the first one goes on with the actor that ran last."""


class Killed(BaseException):
    """The actor's process is gone: from here on nothing that it does has any effect."""


@dataclass
class Actor:
    """One process."""

    name: str
    work: Callable[[], object]
    pending: str = "start"  # the operation that comes next
    writes: bool = True  # whether that operation may change the store
    dead: bool = False
    finished: bool = False
    error: BaseException | None = None
    result: object = None
    fate: Move = "go"
    running: greenlet = field(init=False)

    def __post_init__(self) -> None:
        self.running = greenlet(self._run)

    def _run(self) -> None:
        try:
            self.result = self.work()
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001  the schedule goes on; its judge looks at this
            self.error = error
        self.finished = True


@dataclass(frozen=True)
class Limits:
    """How much may go wrong in one schedule."""

    kills: int = 0
    faults: int = 0


NOTHING_GOES_WRONG = Limits()


@dataclass
class Play:
    """A schedule under way: the actors that run, and what was chosen so far."""

    actors: list[Actor]
    limits: Limits
    log: list[str] = field(default_factory=list)
    kills: int = 0
    faults: int = 0
    last: str = ""

    def actor(self, name: str) -> Actor:
        return next(actor for actor in self.actors if actor.name == name)

    def choices(self) -> list[Choice]:
        """What may come next, going on with the last actor first."""
        alive = [actor for actor in self.actors if not actor.finished and not actor.dead]
        alive.sort(key=lambda actor: actor.name != self.last)
        found: list[Choice] = [(actor.name, "go") for actor in alive]
        if self.kills < self.limits.kills:
            found += [(actor.name, "kill") for actor in alive if actor.writes]
        if self.faults < self.limits.faults:
            at_work = [actor for actor in alive if actor.pending != "start"]
            found += [(actor.name, "lose request") for actor in at_work]
            found += [(actor.name, move) for actor in at_work if actor.writes for move in LOST_ANSWERS]
        return found

    def take(self, choice: Choice) -> None:
        """Let that happen, up to the actor's next operation."""
        name, move = choice
        actor = self.actor(name)
        self.log.append(f"{name}: {actor.pending}" + ("" if move == "go" else f"  ← {move}"))
        actor.fate, self.last = move, name
        self.kills += move == "kill"
        self.faults += move not in ("go", "kill")
        if move == "kill":
            actor.dead = True
            if actor.pending == "start":
                actor.finished = True
                return
        actor.running.switch()


def give_way(operation: str, *, writes: bool) -> Move:
    """Let others run before an operation of the current actor; say what is to become of the operation.

    Raises:
        Killed: the actor's process dies here.
    """
    running = getcurrent()
    actor = getattr(running, "actor", None)
    if actor is None:  # nobody plays: a judge looks at the store
        return "go"
    if actor.dead:
        raise Killed
    actor.pending, actor.writes = operation, writes
    running.parent.switch()
    if actor.dead:
        raise Killed
    fate: Move = actor.fate
    return fate


def play(going: Play, choose: Choose, *, after_each: Callable[[], None] = lambda: None) -> None:
    """Play one schedule to its end; `after_each` looks at the store after every step."""
    for actor in going.actors:
        actor.running.actor = actor  # type: ignore[attr-defined]
    while choices := going.choices():
        going.take(choices[choose(choices)])
        after_each()


class Script:
    """Chooses as a list says, then the first choice always; remembers how many choices there were."""

    def __init__(self, script: Sequence[int]) -> None:
        self.script, self.taken, self.open = script, list[int](), list[int]()

    def __call__(self, choices: Sequence[Choice]) -> int:
        place = len(self.taken)
        chosen = self.script[place] if place < len(self.script) else 0
        self.taken.append(chosen)
        self.open.append(len(choices))
        return chosen


def every(play_one: Callable[[Choose], object], *, interruptions: int) -> Iterator[list[int]]:
    """Play every schedule in which at most so many choices aren't the first; give each one's choices.

    A choice that isn't the first interrupts the actor that runs: by another one, by death, or by a fault.
    """
    waiting: list[list[int]] = [[]]
    while waiting:
        script = waiting.pop()
        chooser = Script(script)
        play_one(chooser)
        yield chooser.taken
        if sum(1 for chosen in script if chosen) == interruptions:
            continue
        for place in range(len(script), len(chooser.taken)):
            for other in range(1, chooser.open[place]):
                waiting.append([*chooser.taken[:place], other])


def at_random(seed: int, *, going_on: float = 0.8) -> Choose:
    """Choose at random, mostly going on with the actor that runs."""
    source = random.Random(seed)

    def choose(choices: Sequence[Choice]) -> int:
        return 0 if source.random() < going_on else source.randrange(len(choices))

    return choose

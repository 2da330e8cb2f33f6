"""The scenes that are played: who is at work at once, over what others have left, and how much may go wrong."""

from __future__ import annotations

from .actors import Command, Decide, Loss, Prune, Rebuild, careful, lax, strict
from .judge import Scene
from .schedule import Limits

LAX, STRICT, CAREFUL = Command("lax", judge=lax), Command("strict", judge=strict), Command("careful", judge=careful)
TWO = ("a", "b")
ALIKE = Command("alike", TWO, unlike=True)
KILL, LOSE = Limits(kills=1), Limits(faults=1)
DIES = Limits(kills=1, faults=1)
ANN, BO = Decide("Ann", ["a"], "approve"), Decide("Bo", ["a"], "reject")
HOLD, TAKE_DOWN = (Decide(name, ["a"], what, asked=False) for name, what in (("Cleo", "hold"), ("Dan", "reject")))

SMALL: dict[str, tuple[Scene, int]] = {
    "a strict and a lax run": (Scene([], [LAX, STRICT]), 2),
    "a strict and a lax run, over a picture that is published": (
        Scene([LAX], [STRICT, Command("other", judge=lax)]),
        2,
    ),
    "the same run twice": (Scene([], [LAX, Command("lax", judge=lax)]), 2),
    "a run that judges again, and a person who approves": (Scene([CAREFUL], [STRICT, ANN]), 2),
    "two people who decide at once": (Scene([CAREFUL], [ANN, BO]), 3),
    "a takedown beside a run": (Scene([LAX], [TAKE_DOWN, Command("other", judge=lax)]), 2),
    "a picture is held back while somebody approves it": (Scene([CAREFUL], [HOLD, ANN]), 3),
    "a prune beside a run": (Scene([LAX, STRICT], [Prune("prune"), Command("other", TWO)]), 2),
    "rows that look alike, twice": (Scene([], [ALIKE, Command("others", ("b", "c"), unlike=True)]), 1),
}
"""Played through: every schedule with so many interruptions."""

MORTAL: dict[str, tuple[Scene, int]] = {
    f"{name}, one of them killed": (Scene(scene.before, scene.at_once, KILL), 2 if len(scene.at_once) == 2 else 1)
    for name, (scene, _) in SMALL.items()
}
"""The same with a process that dies anywhere."""

FLAKY: dict[str, tuple[Scene, int]] = {
    f"{name}, and an answer gets lost": (Scene(scene.before, scene.at_once, LOSE), 2)
    for name, (scene, _) in SMALL.items()
}
"""The same with an operation that fails anywhere, or is repeated though it succeeded."""

LARGE: dict[str, Scene] = {
    "three policies": Scene([], [LAX, STRICT, CAREFUL], Limits(kills=2, faults=1)),
    "runs and people": Scene([Command("careful", TWO, careful)], [Command("lax", TWO), ANN, BO], Limits(kills=2)),
    "takedowns": Scene([Command("lax", TWO)], [HOLD, TAKE_DOWN, Command("strict", TWO, strict)], Limits(1, 1)),
    "duplicates": Scene([ALIKE], [Command("others", ("b", "c"), unlike=True), BO, STRICT], Limits(2, 1)),
    "prunes": Scene([LAX, STRICT], [Prune("prune"), Command("other", TWO), ANN], Limits(2, 1)),
    "retiring": Scene([Command("two", TWO)], [Command("one", ("a",), retires=True), TAKE_DOWN, STRICT], Limits(1, 1)),
    "rebuilding": Scene([LAX, STRICT, Loss("loss")], [Rebuild("rebuild"), Command("other", TWO), Prune("prune")], DIES),
    "rebuilding, and people": Scene(
        [ALIKE, CAREFUL, TAKE_DOWN, Loss("loss")], [Rebuild("rebuild"), HOLD, Rebuild("again")], DIES
    ),
    "shards": Scene([], [Command("lax", ("a", "b", "c"), shard_rows=1), STRICT], Limits(2, 2)),
}
"""Searched at random."""

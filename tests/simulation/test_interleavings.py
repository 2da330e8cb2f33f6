"""No order of any actors' steps, deaths and lost answers loses a picture, or leaves done without its object."""

from __future__ import annotations

import pytest

from .judge import Scene
from .scenes import FLAKY, LARGE, MORTAL, SMALL
from .schedule import at_random, every

THROUGH = {name: scene for group in (SMALL, MORTAL, FLAKY) for name, (scene, _) in group.items()}
SEEDS = 40  # schedules of each larger scene


@pytest.mark.parametrize("scene", THROUGH.values(), ids=THROUGH.keys())
def test_every_schedule_with_one_interruption_keeps_every_promise(scene: Scene) -> None:
    played = sum(1 for _ in every(scene.opened(), interruptions=1))
    assert played > 5


@pytest.mark.parametrize("scene", LARGE.values(), ids=LARGE.keys())
def test_schedules_at_random_keep_every_promise(scene: Scene) -> None:
    play = scene.opened()
    for seed in range(SEEDS):
        play(at_random(seed))  # a failure shows its schedule; the same seed plays it again

"""Play schedules of runs, reviews, takedowns and prunes over a store in memory, for as long as you like.

    python -m benchmarks.simulation --minutes 10

Each scene's schedules are played exhaustively with more and more interruptions, and larger scenes at random, in turns.
A schedule that breaks a promise is printed with its seed or its choices, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator

import pyarrow as pa

from tests.simulation.judge import Scene, Wrong
from tests.simulation.scenes import FLAKY, LARGE, MORTAL, SMALL
from tests.simulation.schedule import at_random, every
from tests.simulation.tables import passing_as_they_are

TURN = 20  # schedules of one scene before it is the next one's turn


def searched(scene: Scene, first_seed: int) -> Iterator[str]:
    """Play schedules at random for ever; say which seed each had."""
    play = scene.opened()
    for seed in itertools.count(first_seed):
        play(at_random(seed))
        yield f"seed {seed}"


def played_through(scene: Scene) -> Iterator[str]:
    """Play all schedules with no interruption, then with one, two and so on; say what was chosen in each."""
    play = scene.opened()
    for interruptions in itertools.count():
        for choices in every(play, interruptions=interruptions):
            yield f"{interruptions} interruptions: {choices}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed of the schedules at random")
    options = parser.parse_args()
    pa.set_cpu_count(1)  # the tables are tiny: threads cost more than they bring
    through = {name: played_through(scene) for group in (SMALL, MORTAL, FLAKY) for name, (scene, _) in group.items()}
    scenes = through | {name: searched(scene, options.seed) for name, scene in LARGE.items()}
    played = dict.fromkeys(scenes, 0)
    last = dict.fromkeys(scenes, "none yet")
    end = time.monotonic() + 60 * options.minutes
    name = ""
    try:
        with passing_as_they_are():
            for name in itertools.cycle(scenes):
                for said in itertools.islice(scenes[name], TURN):
                    last[name] = said
                    played[name] += 1
                    if time.monotonic() > end:
                        break
                if time.monotonic() > end:
                    break
    except Wrong as wrong:
        print(f"{name}, after {last[name]}:\n{wrong}")
        return 1
    for name, schedules in played.items():
        print(f"{schedules:7} {name}")
    print(f"{sum(played.values())} schedules, none of which loses a picture or leaves anything behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

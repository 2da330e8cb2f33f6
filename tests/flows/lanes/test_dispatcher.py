"""Lanes that come, go, hang and fail, in a time of the test's own."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from flows.lanes.dispatcher import MOST_LOSSES, SILENT_AFTER, Dispatcher, Place

STALLED_AFTER = 600.0


@dataclass
class Clock:
    """A time that passes as the test says."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def place(number: int = 0) -> Place:
    return Place(f"node-{number}", f"machine-{number}", "GPU 0")


def dispatcher(clock: Clock, shards: Sequence[int] = range(6), lanes: int = 2) -> Dispatcher:
    return Dispatcher(shards, lanes, STALLED_AFTER, clock=clock)


def begun(one: Dispatcher, lane: int, where: Place) -> int:
    life = one.begin(lane, where)
    assert life is not None
    return life


def simulated(work: Sequence[float], lanes: int, killed: Sequence[float] = ()) -> tuple[float, Counter[int]]:
    """How long lanes of a fixed rate take for shards of so many seconds, and how often each was made.

    Each prepares one ahead, as real ones do. At every time in `killed` the lane that is busiest dies, and is back
    ten seconds later on another machine.
    """
    clock = Clock()
    order = sorted(range(len(work)), key=lambda shard: -work[shard])
    one, made = Dispatcher(order, lanes, STALLED_AFTER, clock=clock), Counter[int]()
    events: list[tuple[float, int, int, str]] = [(0.0, lane, 0, "start") for lane in range(lanes)]
    events += [(at, -1, 0, "kill") for at in killed]
    heapq.heapify(events)
    lives: dict[int, int] = {}
    epochs, ahead, busy = Counter[int](), dict[int, int](), dict[int, int]()
    end = 0.0
    while events:
        clock.now, lane, epoch, what = heapq.heappop(events)
        if what == "kill":
            lane = max(busy, key=lambda some: work[busy[some]])
            epochs[lane] += 1
            ahead.pop(lane, None)
            del busy[lane]
            heapq.heappush(events, (clock.now + 10, lane, epochs[lane], "start"))
            continue
        if epoch != epochs[lane]:
            continue
        if what == "start":
            lives[lane] = begun(one, lane, place(lane + lanes * epoch))
        if what == "end":
            made[busy[lane]] += 1
            one.end(lives[lane], busy.pop(lane))
        shard = ahead.pop(lane, None)
        if shard is None:
            taken = one.take(lives[lane])
            if taken == "wait":
                heapq.heappush(events, (clock.now + 0.5, lane, epoch, "look"))
                continue
            if taken == "over":
                end = max(end, clock.now)
                continue
            shard = taken
        busy[lane] = shard
        if isinstance(following := one.take(lives[lane], ahead=True), int):
            ahead[lane] = following
        heapq.heappush(events, (clock.now + work[shard], lane, epoch, "end"))
    assert one.look().is_over
    return end, made


def test_sixteen_lanes_over_400_uneven_shards_take_a_sixteenth_of_the_time_but_for_five_percent() -> None:
    chance = random.Random(1)
    work = [4 + chance.expovariate(1 / 20) for _ in range(400)]
    took, made = simulated(work, 16)
    assert sum(work) / 16 / took >= 0.95
    assert made == Counter(range(400))


def test_four_lanes_lose_no_shard_to_lanes_that_die_and_little_time() -> None:
    chance = random.Random(2)
    work = [4 + chance.expovariate(1 / 20) for _ in range(60)]
    took, made = simulated(work, 4, killed=[30.0, 100.0, 200.0])
    assert made == Counter(range(60))
    assert took < sum(work) / 4 + 3 * (10 + max(work))


def test_a_lane_that_begins_again_gives_back_what_its_last_life_held(clock: Clock) -> None:
    one = dispatcher(clock)
    first, other = begun(one, 0, place(0)), begun(one, 1, place(1))
    assert (one.take(first), one.take(other)) == (0, 1)
    again = begun(one, 0, place(0))
    assert one.take(other) == 0
    assert (one.beat(first), one.beat(again)) == ("lost", "go on")
    assert one.take(first) == "wait"
    assert [(lane.lane, lane.restarts) for lane in one.histories()] == [(0, 1), (1, 0)]


def test_a_machine_that_says_nothing_loses_its_shards_and_not_its_name(clock: Clock) -> None:
    one = dispatcher(clock)
    gone, other = begun(one, 0, place(0)), begun(one, 1, place(1))
    one.take(gone)
    for _ in range(int(SILENT_AFTER) + 2):
        clock.now += 1
        one.beat(other)
    looked = one.look()
    assert (looked.stalled, looked.left_out) == ([], {})
    assert one.take(other) == 0


def test_a_lane_whose_process_lives_and_gets_on_with_nothing_is_told_of_and_loses_its_shards(clock: Clock) -> None:
    one = dispatcher(clock)
    hung, other = begun(one, 0, place(0)), begun(one, 1, place(1))
    one.take(hung)
    while clock.now < STALLED_AFTER + 2:
        clock.now += 1
        one.beat(hung)
        one.take(other, ahead=True)
    assert one.look().stalled == [0]
    assert one.look().stalled == []  # told once
    assert one.beat(hung) == "lost"


def test_a_gpu_that_fails_three_times_is_left_out_and_named_and_others_go_on(clock: Clock) -> None:
    one = dispatcher(clock, shards=range(2))
    other = begun(one, 1, place(1))
    for _ in range(MOST_LOSSES):
        life = begun(one, 0, place(0))
        assert one.take(life) == 0
        one.leave(life, "CUDA error: uncorrectable ECC error")
    assert one.begin(0, place(0)) is None
    looked = one.look()
    said = "it failed 3 times, the last time because CUDA error: uncorrectable ECC error"
    assert looked.left_out == {place(0): said}
    assert looked.lanes_left_out == [0]
    assert not looked.is_over
    assert one.take(other) == 0
    begun(one, 0, place(2))  # on another machine it may work
    assert one.look().lanes_left_out == []


def test_a_place_that_lacks_what_lanes_need_is_left_out_at_once_and_says_why(clock: Clock) -> None:
    one = dispatcher(clock)
    begun(one, 1, place(1))
    one.refuse(0, place(0), "it has no /models/qwen")
    assert one.look().left_out == {place(0): "it has no /models/qwen"}
    assert one.look().lanes_left_out == [0]


def test_a_machine_that_is_taken_away_doesnt_count_against_its_gpu(clock: Clock) -> None:
    one = dispatcher(clock)
    for _ in range(MOST_LOSSES + 1):
        life = begun(one, 0, place(0))
        assert one.take(life) == 0
        one.leave(life, None)
    assert one.look().left_out == {}


def test_what_was_lost_is_told_once_with_why_and_what_has_no_more_to_do_is_not(clock: Clock) -> None:
    one = dispatcher(clock)
    killed, ended, late = begun(one, 0, place(0)), begun(one, 1, place(1)), begun(one, 2, place(2))
    one.take(killed)
    one.finish(ended)
    begun(one, 0, place(0))
    one.give_up()
    lost = one.look().lost
    assert [(life.life, life.lane) for life in lost] == [(killed, 0), (late, 2), (3, 0)]
    assert lost[0].sentence == (
        "This process was lost because it ended by itself or was killed, and what it held went to other lanes."
    )
    assert lost[1].sentence == "This process was lost because it didn't end in time."
    assert one.look().lost == []


def test_stopping_reaches_every_lane(clock: Clock) -> None:
    one = dispatcher(clock)
    lives = [begun(one, lane, place(lane)) for lane in (0, 1)]
    assert {one.beat(life) for life in lives} == {"go on"}
    one.stop()
    assert {one.beat(life) for life in lives} == {"stop"}

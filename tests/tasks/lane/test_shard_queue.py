"""Shards go to lanes as these come free, and those of a lost lane to others."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.lane.shard_queue import OnlyLane, ShardQueue


def test_one_lane_gets_every_shard_in_order_and_one_ahead() -> None:
    only = OnlyLane(range(3))
    assert [only.take(), only.take(ahead=True), only.take(ahead=True), only.take(ahead=True)] == [0, 1, 2, "over"]
    assert only.take() == "over"  # what it holds itself is no reason to wait


def test_shards_are_looked_at_only_as_far_as_lanes_have_come() -> None:
    seen: list[int] = []

    def coming() -> Iterator[int]:
        for shard in range(1000):
            seen.append(shard)
            yield shard

    queue = ShardQueue(coming(), lanes=2)
    queue.take(0)
    assert seen == [0, 1]


def test_nobody_gets_a_shard_ahead_that_another_lane_could_begin() -> None:
    queue = ShardQueue(range(4), lanes=2)
    assert (queue.take(0), queue.take(0, ahead=True)) == (0, 1)
    assert queue.take(1) == 2
    assert queue.take(1, ahead=True) == "wait"
    assert queue.take(0) == 3


def test_a_lane_waits_for_what_others_hold_and_gets_it_when_they_are_lost() -> None:
    queue = ShardQueue(range(3), lanes=2)
    assert [queue.take(0), queue.take(1), queue.take(1)] == [0, 1, 2]
    queue.end(0)
    assert queue.take(0) == "wait"
    assert not queue.is_over
    queue.end(1)
    assert queue.give_back(1) == [2]
    assert queue.take(0) == 2
    assert queue.take(1) == "wait"
    queue.end(2)
    assert queue.take(1) == queue.take(0) == "over"
    assert queue.is_over


def test_what_is_given_back_comes_before_what_waits() -> None:
    queue = ShardQueue(range(6), lanes=2)
    taken = [queue.take(0), queue.take(0, ahead=True), queue.take(1)]
    queue.give_back(0)
    assert [queue.take(1) for _ in taken] == [0, 1, 3]

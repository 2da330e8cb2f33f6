"""A stream hands things over in order, holds few of them, and lets neither side wait for one that gave up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.lane.bounded_queue import BoundedQueue, QueueAbandoned


def test_things_arrive_in_order() -> None:
    stream: BoundedQueue[int] = BoundedQueue(2)
    with ThreadPoolExecutor(1) as pool:
        arrived = pool.submit(lambda: list(stream))
        for number in range(50):
            stream.put(number)
        stream.close()
        assert arrived.result(200) == list(range(50))


def test_a_writer_waits_while_the_stream_is_full() -> None:
    stream: BoundedQueue[int] = BoundedQueue(2)
    put = []

    def write() -> None:
        for number in range(3):
            stream.put(number)
            put.append(number)
        stream.close()

    thread = threading.Thread(target=write)
    thread.start()
    while len(put) < 2:
        time.sleep(0.01)
    thread.join(0.2)  # in which it would put the third, if it didn't wait
    assert put == [0, 1]
    assert list(stream) == [0, 1, 2]
    thread.join()


def test_a_reader_gets_what_was_handed_over_before_the_writer_gave_up() -> None:
    stream: BoundedQueue[int] = BoundedQueue(2)
    stream.put(1)
    stream.abandon()
    reading = iter(stream)
    assert next(reading) == 1
    with pytest.raises(QueueAbandoned):
        next(reading)


def test_a_writer_does_not_wait_for_a_reader_that_gave_up() -> None:
    stream: BoundedQueue[int] = BoundedQueue(1)
    stream.put(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.put, 2)
        stream.abandon()
        with pytest.raises(QueueAbandoned):
            waiting.result(200)

"""A run that is asked to stop ends in order, and at once where it is asked again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.processes import stopping
from tasks.processes.stopping import STOPPED, Stopped, stop, stopping_in_order, while_there_is_time
from tests.waiting import wait_for

WAITS = """
import os, signal, time
from tasks.processes import stopping
from tasks.processes.stopping import stopping_at_once, stopping_in_order, stop
stopping.ONE = 600.0
def later(*_):
    stopping.ONE = 0.0
    os.write(1, b"later\\n")
signal.signal(signal.SIGWINCH, later)
try:
    with stopping_at_once():
        {within}
            print("ready", flush=True)
            while True:
                if stop.is_set():
                    print("asked", flush=True)
                time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(600)
"""


def waiting(within: str) -> subprocess.Popen[str]:
    """A process for which a SIGWINCH alone makes the time go by in which two signals are one."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(within=within)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("within", "said"), [("with stopping_in_order():", "asked\n"), ("if True:", "interrupted\n")], ids=["lane", "else"]
)
def test_a_second_signal_ends_the_process_and_one_that_comes_twice_does_not(
    within: str, said: str, first: signal.Signals
) -> None:
    process = waiting(within)
    assert process.stdout is not None
    process.send_signal(first)
    assert process.stdout.readline() == said
    process.send_signal(first)  # as timeout(1) does, which sends it to the process and to its group
    process.send_signal(signal.SIGWINCH)  # of the larger number, so that it is heard after the one before
    assert "later\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == STOPPED
    assert error == "Ended at once. What was finished is stored; the same command goes on from there.\n"


def test_a_batch_in_hand_is_given_up_where_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.2)
    left = []

    def batches() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            while True:
                time.sleep(0.01)
        finally:
            left.append(stop.is_set())

    before = signal.getsignal(signal.SIGTERM)
    with stopping_in_order():
        making = while_there_is_time(batches())
        assert next(making) == 1
        with pytest.raises(Stopped):
            next(making)
    assert left == [True]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_was_asked_to_stop_gives_no_batch_more_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", -1.0)
    stop.set()
    try:
        with pytest.raises(Stopped):
            next(while_there_is_time([1]))
    finally:
        stop.clear()


@pytest.fixture
def rung() -> Iterator[list[float]]:
    """When the alarms went off of whoever calls packshot, monotonic; those of the tests wait."""
    times: list[float] = []
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, lambda *_: times.append(time.monotonic()))
    try:
        yield times
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_an_alarm_of_whoever_calls_a_run_is_heard_by_them(rung: list[float]) -> None:
    with stopping_in_order():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        wait_for(lambda: rung)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        wait_for(lambda: len(rung) == 2)


@pytest.mark.parametrize(("theirs", "patience"), [(0.1, 0.3), (0.3, 0.1)])
def test_an_alarm_of_whoever_calls_a_run_goes_off_in_time_though_the_run_is_asked_to_stop(
    rung: list[float], monkeypatch: pytest.MonkeyPatch, theirs: float, patience: float
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", patience)

    def batches() -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(0.01)
        yield 1

    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, theirs)
    with stopping_in_order(), pytest.raises(Stopped):
        next(while_there_is_time(batches()))
    assert time.monotonic() - began >= patience
    wait_for(lambda: rung)
    assert rung[0] - began >= theirs
    time.sleep(2 * max(theirs, patience))
    assert len(rung) == 1


def test_an_alarm_that_nobody_set_again_stays_off_after_a_stop(rung: list[float]) -> None:
    with stopping_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(stop.is_set)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert rung == []


def test_a_signal_that_comes_again_while_the_first_one_is_heard_sets_no_alarm_of_the_callers(
    rung: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_timer, again = signal.setitimer, iter([signal.SIGTERM])

    def heard_twice(which: int, seconds: float) -> tuple[float, float]:
        before = set_timer(which, seconds)
        for number in again:
            signal.raise_signal(number)
        return before

    with monkeypatch.context() as patch:
        patch.setattr(stopping, "PATIENCE", 0.1)
        patch.setattr(signal, "setitimer", heard_twice)
        with stopping_in_order():
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()
            time.sleep(0.3)
    assert next(again, None) is None
    assert rung == []


def test_a_signal_that_comes_as_the_first_of_two_is_listened_for_is_the_first_one_of_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[int] = []
    usual = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in stopping.SIGNALS}
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    handle, coming = signal.signal, iter([signal.SIGINT])

    def coming_then(number: int, handler: Any) -> Any:
        handled = handle(number, handler)
        if number == signal.SIGINT:
            for one in coming:
                signal.raise_signal(one)
        return handled

    try:
        with monkeypatch.context() as patch:
            patch.setattr(stopping, "ONE", 0.0)
            patch.setattr(signal, "signal", coming_then)
            with stopping_in_order():
                assert stop.is_set()
                assert heard == []
                signal.raise_signal(signal.SIGTERM)
                assert heard == [signal.SIGTERM]
        assert {number: signal.getsignal(number) for number in stopping.SIGNALS} == before
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)

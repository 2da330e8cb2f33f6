"""Examples that Hypothesis draws, beside whatever else runs in the process."""

import random
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def slowly_drawn(draw: st.DrawFn) -> int:
    number = draw(st.integers())
    time.sleep(0.001)  # others run meanwhile
    return number


@pytest.fixture(scope="module", autouse=True)
def _a_thread_that_takes_random_numbers() -> Iterator[None]:
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            random.random()
            time.sleep(0.0005)

    thread = threading.Thread(target=take)
    thread.start()
    yield
    over.set()
    thread.join()


@given(st.lists(slowly_drawn(), min_size=3, max_size=3))
def test_random_numbers_that_another_thread_takes_are_no_fault_of_an_example(numbers: list[int]) -> None:
    assert len(numbers) == 3

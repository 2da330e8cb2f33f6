"""Which tests `make quick` leaves out: those that are marked as slow, and whole runs, whoever writes them.

That nobody forgets the mark, the summary of every run of the tests names those that took long and don't have it. Those
that mostly wait come first, so that the others run beside them, and none is left for the end, when nothing does.
"""

import os
from collections.abc import Generator

import pytest

SECONDS = 3.0  # of the processor, in this process and its children; a busy machine leaves them nearly as they are
TOOK = "seconds of the processor"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long; `make quick` leaves it out")
    config.addinivalue_line("markers", "waits: takes a minute in which the processor has nothing to do; comes first")
    config.addinivalue_line("markers", "quick: a whole run that `make quick` makes, too")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole runs as slow: they need the Prefect server. Those that wait come first, then what is slow."""
    for item in items:
        whole_run = "prefect_address" in getattr(item, "fixturenames", ()) and item.get_closest_marker("quick") is None
        if whole_run or item.get_closest_marker("waits"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in ("waits", "slow")])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    before = os.times()
    yield
    item.user_properties.append((TOOK, sum(os.times()[:4]) - sum(before[:4])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    took = {
        report.nodeid: seconds
        for report in terminalreporter.getreports("passed")
        for name, seconds in report.user_properties
        if name == TOOK and seconds > SECONDS and not {"slow", "quick"} & set(report.keywords)
    }
    if took:
        terminalreporter.section("slow tests that aren't marked as such, and make `make quick` slow")
    for test, seconds in sorted(took.items(), key=lambda one: -one[1]):
        terminalreporter.line(f"{seconds:5.1f} s {test}")

"""Which tests `make quick` leaves out: those that `slow.txt` names, and what needs a server that takes long to start.

`pytest --name-slow` writes the file anew from what it runs: each test of more than `SECONDS` of the processor, whatever
its parameters; the summary of every run names those that took six times as long and aren't in it. Tests that mostly
wait, those that share much, and slow ones come first, each in processes of their own, so that the others run beside
them, and none is left for the end, when nothing does: processes with nothing to do take over what would come last.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from itertools import chain, groupby
from pathlib import Path

import pytest

SECONDS = 0.15  # of the processor, in this process and its children; a busy machine leaves them nearly as they are
TOOK = "seconds of the processor"
SERVERS = {"prefect_address", "radosgw"}  # fixtures; whole runs have the first one
NAMES = Path(__file__).with_name("slow.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--name-slow", action="store_true", help="write anew which tests are slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long; `make quick` leaves it out")
    config.addinivalue_line("markers", "waits: takes a minute in which the processor has nothing to do; comes first")
    config.addinivalue_line("markers", "together: shares a fixture that takes long, and is to be made in one process")
    config.addinivalue_line("markers", "quick: a whole run that `make quick` makes, too")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and put the tests in order."""
    slow = {*NAMES.read_text(encoding="utf-8").split()}
    for item in items:
        is_slow = (
            not SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
            or item.get_closest_marker("waits") is not None
            or name(item.nodeid) in slow
        )
        if is_slow and item.get_closest_marker("quick") is None:
            item.add_marker(pytest.mark.slow)
    items[:] = in_order(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def in_order(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Tests in an order that is dealt out to processes in equal shares, one after another.

    The first share begins with what waits, the second with what shares much, and the others with what is slow.
    """

    def marked(mark: str, some: list[pytest.Item]) -> list[pytest.Item]:
        return [item for item in some if item.get_closest_marker(mark) is not None]

    waits = marked("waits", items)
    together = [item for item in marked("together", items) if item not in waits]
    others = [item for item in items if item not in waits and item not in together]
    others.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if processes < 3:
        return [*waits, *together, *others]
    share = len(items) // processes
    fill, more = max(0, share - len(waits)), max(0, share - len(together))
    rest, last, first = others[: -fill - more], others[-fill - more : -fill], others[-fill:]
    return [*waits, *first, *together, *last, *chain.from_iterable(dealt(rest, processes - 2))]


def dealt(items: list[pytest.Item], shares: int) -> list[list[pytest.Item]]:
    """Deal tests out, those of one file that are alike slow to one share: what they share is made there alone."""
    hands: list[list[pytest.Item]] = [[] for _ in range(shares)]
    for _, alike in groupby(items, lambda item: (item.path, item.get_closest_marker("slow") is None)):
        min(hands, key=len).extend(alike)
    return hands


def name(nodeid: str) -> str:
    """The test's file and function, wherever the file lies and whatever the parameters."""
    return nodeid.partition("[")[0].rpartition("/")[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    before = os.times()
    yield
    item.user_properties.append((TOOK, sum(os.times()[:4]) - sum(before[:4])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("--name-slow"):
        names = {name(test) for test in took(terminalreporter, SECONDS, beside={"waits"})}
        NAMES.write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")
        return
    left = took(terminalreporter, 6 * SECONDS, beside={"slow", "quick"})
    if left:
        terminalreporter.section("tests that make `make quick` slow: pytest --name-slow names them in slow.txt")
    for test, seconds in sorted(left.items(), key=lambda one: -one[1]):
        terminalreporter.line(f"{seconds:5.1f} s {test}")


def took(terminalreporter: pytest.TerminalReporter, least: float, *, beside: set[str]) -> dict[str, float]:
    """The tests that took longer than `least` seconds of the processor, but for those with one of these marks."""
    return {
        report.nodeid: seconds
        for report in terminalreporter.getreports("passed")
        for property_, seconds in report.user_properties
        if property_ == TOOK and seconds > least and not beside & set(report.keywords)
    }

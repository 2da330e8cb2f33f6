"""Checks in a process of their own: whatever becomes of one, the others are made."""

import os
import signal
import sys
import time
from functools import partial
from typing import Any

from models.finding import Finding
from tasks.doctor.examine import Check, examine


def fine(name: str) -> list[Finding]:
    print("chatter")  # noqa: T201 where libraries print
    return [Finding.ok(name, "It is there."), Finding.warning(name, "It is old.", "Mend it.")]


def wrong() -> list[Finding]:
    raise ZeroDivisionError("no such thing\nand more of it")


def killed() -> list[Finding]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def leaves() -> list[Finding]:
    sys.exit(3)


def hangs() -> list[Finding]:
    time.sleep(600)
    return []


def process() -> list[Finding]:
    return [Finding.ok("process", str(os.getpid()))]


class Unloadable:
    """Something that can be sent, and not received."""

    def __call__(self) -> list[Finding]:
        return []

    def __reduce__(self) -> Any:
        return fail, ("libcuda is damaged",)


def fail(text: str) -> None:
    raise ImportError(text)


def test_findings_come_in_the_order_of_their_checks() -> None:
    found = list(examine([Check("one", partial(fine, "one")), Check("none", list), Check("two", partial(fine, "two"))]))
    assert [(one.name, one.status) for one in found] == [
        ("one", "ok"),
        ("one", "warning"),
        ("two", "ok"),
        ("two", "warning"),
    ]


def test_checks_share_one_process_that_isnt_this_one() -> None:
    one, other = examine([Check("a", process), Check("b", process)])
    assert one.found == other.found != str(os.getpid())


def test_a_check_that_crashes_dies_or_hangs_is_a_finding_and_hides_no_other() -> None:
    checks = [
        Check("wrong", wrong),
        Check("unloadable", Unloadable()),
        Check("killed", killed),
        Check("leaves", leaves),
        Check("hangs", hangs, seconds=1.5),
        Check("fine", partial(fine, "fine")),
    ]

    found = {finding.name: finding for finding in examine(checks)}

    assert list(found) == [check.name for check in checks]
    assert found["wrong"].found == "Looking at this failed: ZeroDivisionError: no such thing."
    assert found["unloadable"].found == "Looking at this failed: ImportError: libcuda is damaged."
    assert found["killed"].found == "The process that looked at this was ended by SIGSEGV."
    assert found["leaves"].found == "The process that looked at this was ended."
    assert found["hangs"].found == "Looking at this hasn't ended in 1.5 seconds."
    assert [finding.status for finding in found.values()] == 5 * ["failed"] + ["warning"]
    assert all(finding.do for finding in found.values())


def test_whoever_stops_listening_ends_the_process() -> None:
    examination = examine([Check("process", process), Check("hangs", hangs)])
    pid = int(next(examination).found)
    examination.close()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise AssertionError(f"{pid} is alive")

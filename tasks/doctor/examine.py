"""Checks, each of which ends in findings, whatever becomes of it, and in good time.

A GPU's driver can hang in a way that no thread gets out of, and a kernel can take its process with it. So checks are
made in a process of their own, one after another: one that takes too long, or dies, is a finding too, and the rest are
made in the next process. `python -m tasks.doctor.examine` is that process.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

import psutil

from models.finding import Finding
from tasks.processes.child import start_child

SECONDS = 60.0  # more than any check takes that will ever end
HANGING = 0.02  # of the processor's time: a process that uses less waits for something
KILL_SECONDS = 5.0  # a process that hangs in the driver dies when that lets go of it
AGAIN = "Run `packshot doctor` once more; if it stays so, packshot or what it stands on is broken: install it again."


@dataclass(frozen=True)
class Check:
    """Something to look at. `look` is a function of a module, or a partial of one: it is sent to another process."""

    name: str
    look: Callable[[], Sequence[Finding]]
    seconds: float = SECONDS


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Make checks and yield what they find, in their order, each as it ends."""
    left = deque(checks)
    while left:
        ours, theirs = Pipe()
        with ours, theirs:
            process = _start(theirs)
            theirs.close()
            try:
                # Each by itself: what one needs and can't be imported is no other's trouble.
                ours.send([pickle.dumps(check.look) for check in left])
                is_alive = True
                while left and is_alive:
                    findings, is_alive = _await(ours, process, left.popleft())
                    yield from findings
            finally:
                process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(KILL_SECONDS)


def _start(theirs: Connection) -> subprocess.Popen[bytes]:
    return start_child(
        "tasks.doctor.examine",
        str(theirs.fileno()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # where a command's JSON goes
        stderr=subprocess.DEVNULL,
        env=os.environ,
        pass_fds=(theirs.fileno(),),
        process_group=0,  # a Ctrl-C at the terminal stops the command, which then ends this process in its turn
    )


def _await(ours: Connection, process: subprocess.Popen[bytes], check: Check) -> tuple[Sequence[Finding], bool]:
    """Return what a check found, and whether its process goes on."""
    if not _answers(ours, process, check.seconds):
        found = f"Looking at this hasn't ended in {check.seconds:g} seconds."
        return [Finding.failed(check.name, found, "See what hangs: a disk, the network, or the GPU's driver.")], False
    try:
        answer = ours.recv()
    except (EOFError, ConnectionError):
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
        code = process.returncode
        how = f" by {signal.Signals(-code).name}" if code is not None and code < 0 else ""
        return [Finding.failed(check.name, f"The process that looked at this was ended{how}.", AGAIN)], False
    if isinstance(answer, str):
        return [Finding.failed(check.name, f"Looking at this failed: {answer}.", AGAIN)], True
    return answer, True


def _answers(ours: Connection, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a check; say whether it has ended.

    On a machine that others keep busy a check takes longer, and no more of the processor. So these seconds are of the
    processor's time; or they pass while the process uses next to none, because it hangs in something.
    """
    used = 0.0
    while not ours.poll(seconds):
        before, used = used, _used(process.pid)
        if used > seconds or used - before < HANGING * seconds:
            return False
    return True


def _used(pid: int) -> float:
    """Return the seconds of the processor's time that a process has used; all there are, if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return float("inf")
    return float(times.user + times.system)


def main() -> None:
    """Make the checks that are sent, and send what each found, or the name and first line of its exception."""
    with Connection(int(sys.argv[1])) as theirs, suppress(BrokenPipeError):
        for look in theirs.recv():
            try:
                theirs.send(tuple(pickle.loads(look)()))
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 a check looks at what is broken
                said = str(error).strip().splitlines()
                theirs.send(": ".join([type(error).__name__, *said[:1]])[:300].rstrip("."))


if __name__ == "__main__":
    main()

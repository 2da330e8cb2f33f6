"""A child ends with its parent, however that ends, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
import pytest
from PIL import Image

from tests.tasks.sources.test_decoder import slow_jpeg

# Each prints the number of its child, and then waits to be killed.
FROM_A_THREAD_THAT_ENDS = """
thread = threading.Thread(target=lambda: started.append(start_child("sleeper", env=environment)))
thread.start(), thread.join()
"""
FROM_THE_CHILD_OF_A_FORK = """
first = start_child("sleeper", env=environment)  # of this process, which opens what its children watch
reading, writing = os.pipe()
if not (forked := os.fork()):
    os.write(writing, str(start_child("sleeper", env=environment).pid).encode())
    signal.pause()
print(first.pid, os.read(reading, 100).decode(), forked, flush=True)
"""
DECODING = """
from tasks.sources.decoder import Decoder
decoder = Decoder(workers=1)
data = open(sys.argv[1], "rb").read()
threading.Thread(target=decoder.decode, args=(data,), daemon=True).start()
while not (children := psutil.Process().children()) or children[0].cpu_times().user < 2: time.sleep(0.05)
print(children[0].pid, flush=True)
"""
KEEPING = """
from tasks.sources.decoder import Decoder
def decode():
    with Decoder(workers=1, keeps=True) as decoder: decoder.decode(open(sys.argv[1], "rb").read())
    return [process.pid for process in psutil.Process().children() if "decoder" in str(process.cmdline())]
kept = decode()
if not (forked := os.fork()): sys.exit(len(decode()) != 1)  # it has one of its own
assert os.waitpid(forked, 0)[1] == 0
print(*kept, *decode(), flush=True)
"""
EXAMINING = """
from tasks.doctor.examine import Check, examine
threading.Thread(target=lambda: list(examine([Check("hangs", partial(time.sleep, 600))])), daemon=True).start()
while not (children := psutil.Process().children()): time.sleep(0.05)
time.sleep(1)
print(children[0].pid, flush=True)
"""
BEGIN = """
import os, psutil, signal, sys, threading, time
from functools import partial
from tasks.processes.child import start_child
environment, started = dict(os.environ), []
"""
END = """
for child in started: print(child.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[psutil.Process]]]]:
    """Starts a process, and gives it and those whose numbers it prints."""
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
    begun: list[subprocess.Popen[str]] = []
    children: list[psutil.Process] = []

    def start(code: str, *arguments: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + code + END, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        )
        begun.append(process)
        out: IO[str] | None = process.stdout
        assert out is not None
        found = [psutil.Process(int(number)) for number in out.readline().split()]
        children.extend(found)
        return process, found

    yield start
    for process in begun:
        process.kill()
        process.communicate()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def ends(process: psutil.Process, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:  # it ended between the two looks
            return True
        time.sleep(0.05)
    return False


def test_a_child_outlives_the_thread_that_started_it_and_ends_with_the_process(parent: Callable[..., object]) -> None:
    process, (child,) = parent(FROM_A_THREAD_THAT_ENDS)
    assert not ends(child, 1.0)
    process.send_signal(signal.SIGKILL)
    assert ends(child)


def test_a_fork_has_its_own_children_and_keeps_nobody_elses_alive(parent: Callable[..., object]) -> None:
    process, (first, second, forked) = parent(FROM_THE_CHILD_OF_A_FORK)
    assert not ends(first, 0.5)
    process.kill()
    assert ends(first)
    assert second.is_running()
    assert second.status() != psutil.STATUS_ZOMBIE
    forked.kill()
    assert ends(second)


def test_a_process_that_decodes_ends_in_the_middle_of_a_picture(parent: Callable[..., object], tmp_path: Path) -> None:
    (picture := tmp_path / "slow.jpg").write_bytes(slow_jpeg())
    process, (child,) = parent(DECODING, str(picture))
    process.kill()
    assert ends(child)


def test_a_process_that_is_kept_is_its_parents_alone_and_ends_with_it(
    parent: Callable[..., object], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(picture := tmp_path / "picture.png")
    process, (kept, again) = parent(KEEPING, str(picture))
    assert kept == again
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert not kept.is_running()


def test_a_process_that_examines_ends_in_the_middle_of_a_check(parent: Callable[..., object]) -> None:
    process, (child,) = parent(EXAMINING)
    process.kill()
    assert ends(child)


def test_a_child_gets_its_arguments_and_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.processes.child import start_child

    (tmp_path / "shout.py").write_text("import sys\nprint(sys.argv[1:], __name__)\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    process = start_child("shout", "a", "b c", env=os.environ, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=30)
    assert (out.decode().strip(), process.returncode) == ("['a', 'b c'] __main__", 7)

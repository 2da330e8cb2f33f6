"""What a person at a terminal sees while a checkpoint is on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.transfer.endpoints import Listener, Step, listening

WORDS: dict[Step, str] = {"fetch": "fetching", "store": "storing", "check": "checking"}


def say(console: Console, sentence: str) -> None:
    """Print a sentence about something that a person would wonder about."""
    console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)


class Bars:
    """A bar for every step, in bytes; sentences above them. Without a terminal, the sentences alone."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.bars: dict[Step, TaskID] = {}

    def __enter__(self) -> Bars:
        if self.console.is_terminal:  # elsewhere rich would end with an empty line
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def expect(self, step: Step, size: int, done: int) -> None:
        if step in self.bars:
            self.progress.remove_task(self.bars[step])
        self.bars[step] = self.progress.add_task(WORDS[step], total=size, completed=done)

    def moved(self, step: Step, size: int) -> None:
        self.progress.advance(self.bars[step], size)

    def say(self, sentence: str) -> None:
        say(self.console, sentence)


class OneLineProgress:
    """The same in one line of text, for a bar that is about something else."""

    def __init__(self, show: Callable[[str], None], say: Callable[[str], None]) -> None:
        self.show, self.say = show, say
        self.lock = threading.Lock()
        self.size = self.done = self.begun = 0
        self.since = time.monotonic()

    def expect(self, step: Step, size: int, done: int) -> None:  # noqa: ARG002  a job only ever fetches
        self.size, self.done, self.begun, self.since = size, done, done, time.monotonic()

    def moved(self, step: Step, size: int) -> None:
        with self.lock:
            self.done += size
            rate = (self.done - self.begun) / max(time.monotonic() - self.since, 0.1)
        self.show(f"{WORDS[step]} {decimal(self.done)} of {decimal(self.size)}, {decimal(int(max(rate, 0)))}/s")


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell a listener of whatever a job has to fetch in the block."""
    told = listening.set(listener)
    try:
        yield
    finally:
        listening.reset(told)

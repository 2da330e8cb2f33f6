"""Whether a process still lives is told right while it ends, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.processes.process import is_alive, owner_of


@pytest.fixture
def another() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_lives_until_it_has_ended(another: subprocess.Popen[bytes]) -> None:
    owner = owner_of(psutil.Process(another.pid))
    assert is_alive(owner)
    another.kill()
    another.wait()
    assert is_alive(owner) is False


def test_a_process_that_ends_as_one_looks_at_it_lives_no_more(
    another: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, usual, ended = owner_of(psutil.Process(another.pid)), Path.open, list[Path]()

    def ending_then(file: Path, *how: Any, **options: Any) -> Any:
        opened = usual(file, *how, **options)
        if file == Path(f"/proc/{another.pid}/stat"):
            another.kill()
            another.wait()
            ended.append(file)
        return opened

    monkeypatch.setattr(Path, "open", ending_then)
    assert is_alive(owner) is False
    assert ended

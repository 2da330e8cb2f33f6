"""A temporary folder is there for as long as somebody uses it, and what a killed process left of one is cleared."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.files.temporary_folder import clear_abandoned, temporary_folder

HOLD = """
import signal
from models.files.temporary_folder import temporary_folder
with temporary_folder() as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_bytes(b"content")
    print(folder, flush=True)
    signal.pause()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, here and in processes that are started from here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder(place: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts a process that holds a folder, and gives both."""
    del place
    begun: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment)
        begun.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_a_folder_goes_when_it_is_left_and_nothing_stays_beside_it(place: Path) -> None:
    def work() -> None:
        with temporary_folder() as folder:
            (folder / "file").write_text("content")
            assert folder.parent == place
            assert folder.stat().st_mode & 0o777 == 0o700
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(place.iterdir()) == []


def test_what_killed_processes_left_is_cleared_and_what_is_in_use_stays(
    place: Path, holder: Callable[[], tuple[subprocess.Popen[str], Path]]
) -> None:
    held = [holder() for _ in range(4)]
    (place / "packshot-of-before").mkdir()
    for process, _ in held[:3]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert all(folder.exists() for _, folder in held)

    with temporary_folder() as mine:
        clear_abandoned()  # not those of this process either
        assert mine.exists()
        assert [folder.exists() for _, folder in held] == [False, False, False, True]

    assert {file.name for file in place.iterdir()} == {
        held[3][1].name,
        held[3][1].name + ".lock",
        "packshot-of-before",  # nobody knows whose it is
    }


def test_a_process_that_was_killed_between_any_two_steps_leaves_nothing_for_good(place: Path) -> None:
    (place / "packshot-lock-alone.lock").touch()
    (place / "packshot-both.lock").touch()
    (place / "packshot-both").mkdir()
    clear_abandoned()
    assert list(place.iterdir()) == []


def test_a_folder_is_not_made_on_a_lock_that_somebody_cleared_meanwhile(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, cleared = fcntl.flock, []

    def late(lock: int, how: int) -> None:
        if not cleared:
            cleared.append(lock)
            (file,) = place.glob("*.lock")
            file.unlink()
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with temporary_folder() as folder:
        assert folder.exists()
        assert folder.with_name(folder.name + ".lock").exists()
    assert len(cleared) == 1
    assert list(place.iterdir()) == []


def test_nothing_outside_is_cleared_through_links(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_text("content")
    (outside / "lock").touch()
    (place / "packshot-a.lock").symlink_to(outside / "lock")
    (place / "packshot-b.lock").touch()
    (place / "packshot-b").symlink_to(outside)
    os.mkfifo(place / "packshot-c.lock")
    clear_abandoned()
    assert {file.name for file in outside.iterdir()} == {"file", "lock"}

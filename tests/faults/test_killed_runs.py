"""A run that is killed leaves no process behind, and no folder for longer than until the next one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.stores.store import Store
from tests.end_to_end.conftest import command, manifest, spawned_command, store
from tests.end_to_end.test_decompose import drawing
from tests.faults.killing import processes
from tests.waiting import wait_for

__all__ = ["manifest", "store"]  # fixtures


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the runs of a test put what is temporary, by which their processes are known, too."""
    (folder := tmp_path / "temporary").mkdir()
    return folder


def test_a_killed_run_leaves_no_process_and_the_next_command_clears_its_folders(
    manifest: Callable[..., str], store: Store, place: Path, tmp_path: Path
) -> None:
    file = manifest([{"id": f"r{n}", "image": drawing(n)} for n in range(3)])
    words = ["decompose", file, "--store", store.uri, "--resolution", "64", "--steps", "2"]
    environment = {"TMPDIR": str(place), "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    process = spawned_command(*words, **environment)

    def works() -> bool:
        """Whether its Prefect server and a process that decodes are there."""
        commands = [word for command in processes(place).values() for word in command]
        return "uvicorn" in commands and "tasks.sources.decoder_process" in commands

    wait_for(works, 200)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    try:
        wait_for(lambda: not processes(place), 15)
    finally:
        for left in processes(place):
            left.kill()
    assert list(place.glob("packshot-*"))

    _, said = (dry := command(*words, "--dry-run", **environment)).communicate(timeout=200)

    assert dry.returncode == 0, said
    assert list(place.glob("packshot-*")) == []
    assert not processes(place)

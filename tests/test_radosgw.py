"""The real S3 server of the tests goes with whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.radosgw import Radosgw, answers

ROOT = Path(__file__).parents[1]


def daemons_of(folder: Path) -> list[int]:
    """Processes whose command line names this folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in command.read_bytes() and int(command.parent.name) != os.getpid():
                found.append(int(command.parent.name))
        except OSError:
            continue
    return found


def test_a_real_s3_server_ends_when_it_is_left(radosgw: Radosgw, tmp_path: Path) -> None:
    del radosgw  # skips where it isn't installed
    with Radosgw(tmp_path / "own") as server:
        assert answers(server.address)
        assert len(daemons_of(tmp_path / "own")) == 3
    assert not answers(server.address)
    assert daemons_of(tmp_path / "own") == []
    assert not (tmp_path / "own").exists()


def test_a_real_s3_server_ends_with_its_parent_however_that_ends(radosgw: Radosgw, tmp_path: Path) -> None:
    del radosgw
    code = (
        "import sys, time; from pathlib import Path; from tests.radosgw import Radosgw\n"
        "with Radosgw(Path(sys.argv[1])) as server: print(server.address, flush=True); time.sleep(300)"
    )
    folder = tmp_path / "theirs"
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
        assert len(daemons_of(folder)) == 4  # with the parent
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 30
    while left := daemons_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)

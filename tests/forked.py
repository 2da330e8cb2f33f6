"""Commands in processes of their own, forked from one that has imported what takes long.

    process = forked_command("generate", "manifest.parquet", "--store", "out", environment=dict(os.environ))
    out, err = process.communicate()

A start takes two seconds and not ten of the processor. What is imported before is only what no environment variable
changes: Prefect, the flows and the command line are imported by each command itself, as where a person starts it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

PRELOADED = (
    "models.engines.generator",
    "models.clip.clip",
    "models.engines.decomposer",
    "pyarrow.parquet",
    "pydantic",
    "boto3",
    "rich",
)
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error"}
ROOT = Path(__file__).parents[1]
MOST_BYTES = 1 << 18  # of a request: words and environment


class ForkedCommand:
    """A command that runs, as `subprocess.Popen` knows one whose output is text."""

    def __init__(self, connection: socket.socket, out: IO[str], err: IO[str]) -> None:
        """`connection` tells the process' number, and then how it ended."""
        self._connection, self.stdout, self.stderr = connection, out, err
        self.pid = int(connection.recv(100))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or the signal's number below zero; None where it is still running."""
        with contextlib.suppress(TimeoutError):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutError: if it is still running after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise TimeoutError(f"The command is still running after {timeout} s.")
            self.returncode = int(self._connection.recv(100))
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it wrote to both of its outputs."""
        with ThreadPoolExecutor(2) as pool, self.stdout, self.stderr:
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except TimeoutError:
                self.kill()  # or its outputs never end
                raise
            return out.result(), err.result()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.send_signal(signal.SIGKILL)


class _Forker:
    """The process that commands are forked from; it ends with this one."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self._address)
            listening.listen()
            self._mine, theirs = os.pipe()[::-1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(listening.fileno()), str(theirs)],
                pass_fds=(listening.fileno(), theirs),
                cwd=ROOT,
                env={**os.environ, **QUIET},
            )
            os.close(theirs)
        atexit.register(self.close)

    def start(self, words: tuple[str, ...], environment: dict[str, str]) -> ForkedCommand:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        connection.connect(self._address)
        outputs = [os.pipe(), os.pipe()]
        request = json.dumps({"words": words, "environment": environment, "folder": str(Path.cwd())}).encode()
        socket.send_fds(connection, [request], [writing for _, writing in outputs])
        for _, writing in outputs:
            os.close(writing)
        out, err = (os.fdopen(reading, encoding="utf-8") for reading, _ in outputs)
        return ForkedCommand(connection, out, err)

    def close(self) -> None:
        """End the process; commands that still run go on."""
        os.close(self._mine)
        self._process.wait()
        self._folder.cleanup()


_forker: _Forker | None = None


def forked_command(*words: str, environment: dict[str, str]) -> ForkedCommand:
    """Start a command with this environment, and nothing to read."""
    global _forker
    if _forker is None:
        _forker = _Forker()
    return _forker.start(words, environment)


def serve(listening: socket.socket, alive: int) -> dict[str, list[str]] | None:
    """Fork a process for each request. Returns its request in the forked one, and None when nobody asks any more.

    Between the two stands one that waits for the end and tells it: a process with threads is not to be forked.
    """
    while alive not in (ready := select.select([listening, alive], [], [], 1.0)[0]):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not ready:
            continue
        connection, _ = listening.accept()
        data, outputs, _, _ = socket.recv_fds(connection, MOST_BYTES, 2)
        if os.fork() == 0:
            os.close(alive)
            listening.close()
            if (command := os.fork()) == 0:
                connection.close()
                request = json.loads(data)
                _become(request, outputs)
                return request  # type: ignore[no-any-return]
            _tell(connection, command, outputs)
        connection.close()
        for output in outputs:
            os.close(output)
    return None


def _tell(connection: socket.socket, command: int, outputs: list[int]) -> NoReturn:
    """Tell a process' number and, once it has ended, its exit code; then leave without an exit of one's own."""
    for output in outputs:
        os.close(output)
    with contextlib.suppress(OSError):  # nobody waits for it
        connection.send(str(command).encode())
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])).encode())
    os._exit(0)


def _become(request: dict[str, list[str]], outputs: list[int]) -> None:
    """Take on a request's environment, working folder and outputs."""
    for descriptor, number in zip([os.open(os.devnull, os.O_RDONLY), *outputs], (0, 1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(str(request["folder"]))
    tempfile.tempdir = None  # is looked for once a process


def main() -> None:
    """Import what takes long, and be forked; a forked one is the command from here on."""
    for name in PRELOADED:
        import_module(name)
    request = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    if request is not None:
        sys.argv = ["packshot", *request["words"]]
        import_module("flows.command").main()


if __name__ == "__main__":
    main()

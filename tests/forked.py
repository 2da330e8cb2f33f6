"""Commands in processes of their own, forked from one that has imported what takes long.

    process = forked_command("generate", "manifest.parquet", "--store", "out", environment=dict(os.environ))
    out, err = process.communicate()

A start takes two seconds and not ten of the processor. What is imported before is only what no environment variable
changes: Prefect, the flows and the command line are imported by each command itself, as where a person starts it.
Processes of tests that run side by side are forked from the same one: see `workers`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
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
from typing import IO, Any, NoReturn

PRELOADED = (
    "models.engines.generator",
    "models.clip.clip",
    "models.engines.decomposer",
    "tests.warmed",
    "pyarrow.dataset",
    "boto3",
    "rich",
    "pydantic_settings",  # this and what follows is Prefect's
    "jsonschema",
    "httpx",
    "fastapi",
    "griffe",
    "pendulum",
    "websockets",
    "prometheus_client",
    "pathspec",
    "cryptography.x509",
    "typer",  # this and what follows is ours, where it is needed
    "tomlkit",
    "psd_tools",
    "skimage.metrics",
    "cv2",
)
FORKER = "PACKSHOT_TESTS_FORKER"  # the variable that names the process from which others are to be forked, too
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
            with contextlib.suppress(ProcessLookupError):  # it has, and hasn't told so yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.send_signal(signal.SIGKILL)


class Forker:
    """The process that others are forked from; it ends with this one.

        kills = Forker(("flows.generate",), dict(os.environ))

    With names of modules it is itself forked, and imports these, too, in an environment that is to be all its own ones'
    where they look at it as they are imported.
    """

    def __init__(self, preloaded: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self.address = str(Path(self._folder.name) / "socket")
        self._process: subprocess.Popen[bytes] | socket.socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self.address)
            listening.listen()
            self._mine, theirs = os.pipe()[::-1]
            if preloaded:
                source = f"from tests.forked import be_forked; be_forked({preloaded!r}, 0, 1)"
                standard = [listening.fileno(), theirs, 2]
                self._process = fork(_address(), standard, (), environment or dict(os.environ), source)
            else:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forked", str(listening.fileno()), str(theirs)],
                    pass_fds=(listening.fileno(), theirs),
                    cwd=ROOT,
                    env={**os.environ, **QUIET},
                )
            os.close(theirs)
        atexit.register(self.close)

    def close(self) -> None:
        """End the process; commands that still run go on."""
        os.close(self._mine)
        if isinstance(self._process, socket.socket):
            while self._process.recv(100):  # its number, and how it ended
                pass
            self._process.close()
        else:
            self._process.wait()
        self._folder.cleanup()


_forker: Forker | None = None


def forked_command(*words: str, environment: dict[str, str], source: str = "") -> ForkedCommand:
    """Start a command with this environment, and nothing to read; where there is `source`, that runs in its place."""
    outputs = [os.pipe(), os.pipe()]
    with Path(os.devnull).open() as nothing:
        standard = [nothing.fileno(), *(writing for _, writing in outputs)]
        connection = fork(_address(), standard, words, environment, source)
    for _, writing in outputs:
        os.close(writing)
    out, err = (os.fdopen(reading, encoding="utf-8") for reading, _ in outputs)
    return ForkedCommand(connection, out, err)


def forked_source(
    source: str, standard: list[int], environment: dict[str, str], forker: Forker | None = None
) -> ForkedCommand:
    """Run `source` in a process with these descriptors as its standard input and outputs."""
    connection = fork(forker.address if forker else _address(), standard, (), environment, source)
    return ForkedCommand(connection, io.StringIO(), io.StringIO())


def _address() -> str:
    """The process that all are forked from who are told of it, else one of this process' own."""
    global _forker
    if FORKER in os.environ:
        return os.environ[FORKER]
    if _forker is None:
        _forker = Forker()
    return _forker.address


def fork(
    address: str, standard: list[int], words: tuple[str, ...], environment: dict[str, str], source: str = ""
) -> socket.socket:
    """Ask for a process with these descriptors as its standard input and outputs.

    It is the command with these words or, where there is `source`, runs that. Returns where it tells its number and,
    later, how it ended.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
    connection.connect(address)
    request = {"words": words, "environment": environment, "folder": str(Path.cwd()), "source": source}
    socket.send_fds(connection, [json.dumps(request).encode()], standard)
    return connection


def serve(listening: socket.socket, alive: int) -> dict[str, Any] | None:
    """Fork a process for each request. Returns its request in the forked one, and None when nobody asks any more.

    Between the two stands one that waits for the end and tells it: a process with threads is not to be forked. Ctrl-C
    is for the forked ones alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while alive not in (ready := select.select([listening, alive], [], [], 1.0)[0]):
        _reap()
        if not ready:
            continue
        connection, _ = listening.accept()
        data, standard, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
        if os.fork() == 0:
            os.close(alive)
            listening.close()
            if (command := os.fork()) == 0:
                connection.close()
                request = json.loads(data)
                _become(request, standard)
                return request  # type: ignore[no-any-return]
            _tell(connection, command, standard)
        connection.close()
        for descriptor in standard:
            os.close(descriptor)
    _reap()
    return None


def _reap() -> None:
    """Let the system forget those that have ended; the seconds of the processor that they took are counted as ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _tell(connection: socket.socket, command: int, standard: list[int]) -> NoReturn:
    """Tell a process' number and, once it has ended, its exit code; then leave without an exit of one's own."""
    for descriptor in standard:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # nobody waits for it
        connection.send(str(command).encode())
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])).encode())
    os._exit(0)


def _become(request: dict[str, Any], standard: list[int]) -> None:
    """Take on a request's environment, working folder, input and outputs."""
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    tempfile.tempdir = None  # is looked for once a process
    signal.signal(signal.SIGINT, signal.default_int_handler)


def be_forked(names: tuple[str, ...], listening: int, alive: int) -> NoReturn:
    """Import what takes long, and be forked; a forked one is the command, or runs its source, from here on."""
    gc.disable()  # what is imported stays: to look for garbage in it takes as long again as a quarter of the imports
    for name in names:
        import_module(name)
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries complain of what is left at the interpreter's end
    gc.enable()
    request = serve(socket.socket(fileno=listening), alive)
    if request is None or request["source"]:
        if request is not None:
            exec(request["source"], {"__name__": "__main__"})
            sys.stdout.flush()
        os._exit(0)  # to take all apart that was imported takes two seconds of the processor
    sys.argv = ["packshot", *request["words"]]
    sys.exit(import_module("flows.command").main())


if __name__ == "__main__":
    be_forked(PRELOADED, int(sys.argv[1]), int(sys.argv[2]))

"""A process that decodes pictures, seen from the one that gives them to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, get_args

import numpy as np

from tasks.processes.child import start_child
from tasks.sources.decoder_process import DECODE, LENGTH, MEASURE, READY, Header
from tasks.sources.pixels import Limits
from tasks.sources.source_error import Reason, SourceError

START_SECONDS = 60.0
MOST_SAID = 1 << 16  # bytes of an answer before its pixels
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")  # of the environment: no credentials


@dataclass(frozen=True)
class SourcePicture:
    """A picture as it was given."""

    pixels: np.ndarray  # uint8 [H, W, 4]: RGBA in sRGB, straight alpha, upright
    width: int
    height: int
    format: str  # by content: png, jpeg, webp, tiff, gif, bmp
    sha256: str  # hex, of the bytes


class Worker:
    """One process that decodes one picture at a time."""

    def __init__(self, limits: Limits) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            OSError: it doesn't start.
        """
        self.limits, self.environment = limits, inherited()
        self.process = start_child(
            "tasks.sources.decoder_process",
            json.dumps(asdict(limits)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
            process_group=0,  # a Ctrl-C at the terminal stops the run, which then ends this process in its turn
        )
        with self._watched(START_SECONDS) as expired:
            ready = self._out.read(len(READY)) == READY
        if not ready or expired.is_set():
            self.end()
            raise OSError(
                "The process that decodes pictures doesn't start; `python -m tasks.sources.decoder_process "
                "'{}'` says why."
            )

    @property
    def gone(self) -> bool:
        return self.process.poll() is not None

    @property
    def _in(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def decode(self, data: bytes) -> SourcePicture:
        """Decode a picture as `Decoder.decode` does; a worker that is `gone` afterwards takes no other picture."""
        with self._answering():
            header = self._ask(DECODE, data)
            pixels = np.empty((header.height, header.width, 4), np.uint8)
            if self._out.readinto(pixels.data.cast("B")) != pixels.nbytes:  # type: ignore[attr-defined]
                raise EOFError
        return SourcePicture(pixels, header.width, header.height, header.format, hashlib.sha256(data).hexdigest())

    def measure(self, data: bytes) -> Header:
        """Measure a picture as `Decoder.measure` does; likewise."""
        with self._answering():
            return self._ask(MEASURE, data)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Hold the process to its time, and say what became of it where it gives no answer."""
        expired = threading.Event()
        try:
            with self._watched(self.limits.seconds) as expired:
                yield
        except (EOFError, BrokenPipeError, TypeError, ValueError):
            raise self._death(expired.is_set()) from None
        except MemoryError:
            self.process.kill()  # its answer was read in part
            raise

    def _ask(self, wanted: bytes, data: bytes) -> Header:
        self._in.write(wanted + LENGTH.pack(len(data)))
        self._in.write(data)
        self._in.flush()
        return self._header()

    def _header(self) -> Header:
        length = self._out.read(LENGTH.size)
        if len(length) < LENGTH.size:
            raise EOFError
        size = LENGTH.unpack(length)[0]
        text = self._out.read(min(size, MOST_SAID))
        if len(text) < size:
            raise EOFError
        said = json.loads(text)
        if said.get("reason") in get_args(Reason):
            raise SourceError(said["reason"], said["message"])
        header = Header(**said)
        # What a stranger's bytes made of that process isn't known, so it is believed within the limits only.
        if not 0 < header.width * header.height <= self.limits.pixels:
            raise EOFError
        return header

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process if the block takes longer; that ends whatever waits for it. Gives whether it happened."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.process.kill()

        timer = threading.Timer(seconds, expire)
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()
            timer.join()
            if expired.is_set():
                self.process.wait()

    def _death(self, expired: bool) -> SourceError:
        self.process.kill()
        code = self.process.wait()
        if expired:
            return SourceError(
                "source_too_large", f"The picture takes over {self.limits.seconds:.4g} s to decode.", retryable=True
            )
        if code == -signal.SIGXCPU:
            return SourceError(
                "source_too_large", f"The picture takes over {self.limits.cpu_seconds} s of computing to decode."
            )
        if code == -signal.SIGKILL:
            return SourceError(
                "source_too_large", "The process that decoded the picture was ended from outside.", retryable=True
            )
        return SourceError("source_corrupt", f"The process that decoded the picture died of it ({_named(code)}).")

    def end(self) -> None:
        """End the process, and wait for that."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()
        self.process.kill()
        self.process.wait()


def inherited() -> dict[str, str]:
    """Return what such a process is given of this one's environment."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _named(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"

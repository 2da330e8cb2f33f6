"""The process in which strangers' pictures are decoded: `python -m tasks.sources.decoder_process LIMITS`.

`tasks.sources.decoder_worker` starts it, with nothing in its environment worth stealing. It takes pictures from its
standard input, one after another, and answers on its standard output: for each the JSON of a `Header` or a refusal, and
the rows of pixels. It imports Pillow, and none of the rest: not even numpy, which would be the longest part of its
start.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from tasks.sources.pixels import Limits, Refused, decode, measure

LENGTH = struct.Struct(">Q")  # before every message
DECODE, MEASURE = b"d", b"m"  # before a request: what is wanted
READY = b"\n"
BAND = 4 << 20  # bytes of pixels that are sent at a time, so that no second copy of a picture is made


@dataclass(frozen=True)
class Header:
    """What is said of a picture before its pixels."""

    width: int
    height: int
    format: str


def confine(limits: Limits) -> None:
    """Limit this process, where the system knows how: its memory, and that it writes no file and leaves no core."""
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        _limit(kind, most)
    with contextlib.suppress(OSError):  # macOS has no /proc, and doesn't hold anybody to RLIMIT_AS
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, hard))


def serve(requests: BinaryIO, answers: BinaryIO, limits: Limits) -> None:
    """Decode pictures until there are no more: a length and bytes in, a length and JSON and rows of pixels out."""
    while wanted := requests.read(len(DECODE)):
        data = requests.read(*LENGTH.unpack(requests.read(LENGTH.size)))
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + limits.cpu_seconds)
        try:
            if wanted == MEASURE:
                _answer(answers, asdict(Header(*measure(data, limits))))
                continue
            image, name = decode(data, limits)
        except Refused as refusal:
            _answer(answers, {"reason": refusal.reason, "message": str(refusal)})
        else:
            _answer(answers, asdict(Header(image.width, image.height, name)))
            rows = max(1, BAND // (4 * image.width))
            for top in range(0, image.height, rows):
                answers.write(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
            answers.flush()
            del image


def _answer(answers: BinaryIO, said: dict[str, object]) -> None:
    text = json.dumps(said).encode()
    answers.write(LENGTH.pack(len(text)) + text)
    answers.flush()


def main() -> None:
    """Say that we are ready, and serve. What decoders print goes nowhere."""
    limits = Limits(**json.loads(sys.argv[1]))
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = limits.pixels
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    confine(limits)
    answers.write(READY)
    answers.flush()
    serve(sys.stdin.buffer, answers, limits)


if __name__ == "__main__":
    main()

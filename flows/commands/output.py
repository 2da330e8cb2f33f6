"""What the command writes to its terminal, pipe or file, whoever reads it and in whichever encoding."""

from __future__ import annotations

import io
import os
import sys
from json import dumps
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console

terminal, problems = Console(), Console(stderr=True)


class Outlet(io.FileIO):
    """A file descriptor whose reader may go away: what is written then is lost, as `| head` wants it."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return len(data)


def open_output() -> None:
    """Have this process's output end nothing.

    A reader that goes away is no fault, and the command still ends with its own exit code. Characters that the
    encoding lacks are written as question marks. Where standard output or error is closed, nothing is written to it.
    """
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)


def _opened(stream: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        descriptor = stream.fileno()
    except OSError:  # in memory
        stream.reconfigure(errors="replace")
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Outlet(descriptor, "w", closefd=False)),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors="replace",
        line_buffering=True,
    )


def say(console: Console, sentence: str, style: str | None = None) -> None:
    """Print a sentence as it is, however long."""
    console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)


def show_json(document: Any) -> None:
    """Print a document for machines."""
    typer.echo(dumps(document, indent=2, ensure_ascii=False))

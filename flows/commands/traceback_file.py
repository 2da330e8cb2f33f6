"""Where the traceback of a fault goes, so that the terminal gets one line and whoever mends it gets everything."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

ROOMS = ("flows", "tasks", "models", "safety")
STEPS = {
    "estimate": "estimating the run",
    "prepare": "planning the run",
    "screen": "screening rows",
    "render": "making pictures",
    "classify": "judging pictures",
    "keep": "storing pictures",
    "finish": "writing the catalogue and the report",
    "report_store": "writing the report",
    "waiting": "reading what waits for review",
    "answer_for": "answering for rows",
    "prune_store": "pruning the store",
    "rebuild": "rebuilding the catalogue",
    "train_probe": "training the probe",
    "calibrate": "measuring thresholds",
    "examine": "looking at this machine",
}
"""What functions of the command's steps do, in words."""
PACKAGES = ("packshot", "torch", "diffusers", "transformers", "prefect", "pyarrow", "boto3")


def write_traceback(error: BaseException, doing: str) -> Path | None:
    """Write the traceback of an error to a file of its own, and return where; None where nothing can be written.

    The file lies in packshot's folder under XDG_STATE_HOME (XDG Base Directory Specification 0.8), else in the
    temporary folder, and is its owner's alone: a traceback may quote a prompt.
    """
    moment = datetime.now(UTC)
    python = f"Python {platform.python_version()} on {platform.platform()}"
    about = [f"{doing}, {moment:%Y-%m-%d %H:%M:%S} UTC", python, ", ".join(_versions()), ""]
    content = "\n".join([*about, "".join(traceback.format_exception(error))])
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(".txt", f"fault-{moment:%Y%m%d-%H%M%S}-", folder)
            os.close(descriptor)
            Path(name).write_text(content, "utf-8", "backslashreplace")
        except OSError:
            continue
        return Path(name)
    return None


def step_of(error: BaseException) -> str | None:
    """Say what was being done when an error came up: the innermost step that its traceback goes through."""
    steps = [STEPS.get(frame.f_code.co_name) for frame in _frames(error) if _room(frame) in ROOMS]
    return next((step for step in reversed(steps) if step), None)


def _frames(error: BaseException) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(error.__traceback__))


def _room(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} isn't installed as a package"


def _folders() -> Iterator[Path]:
    root = Path(os.environ.get("XDG_STATE_HOME", ""))
    if root.is_absolute():
        yield root / "packshot"
    else:
        with suppress(RuntimeError):  # no HOME, and the system doesn't know this user
            yield Path.home() / ".local" / "state" / "packshot"
    with suppress(FileNotFoundError):  # none can be written
        yield Path(tempfile.gettempdir())

"""How a command ends that can't go on: a sentence and an exit code, whatever came up."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from flows.commands.traceback_file import step_of, write_traceback
from models.files.safetensors_files import CheckpointError, CheckpointUnreachable
from models.files.temporary_folder import NoTemporaryRoom
from models.lost_device import DeviceLost
from safety.marks.credentials import CredentialsError
from tasks.errors import RequestError
from tasks.processes.stopping import Stopped
from tasks.stores.store import StoreAddressError, StoreError

OK, ROWS_FAILED, WRONG_REQUEST, OUT_OF_REACH, FAULT, STOPPED = 0, 1, 2, 3, 70, 130  # 70: EX_SOFTWARE of sysexits.h

REMEDIES = {
    errno.ENOSPC: "make room there, or set TMPDIR to a folder that has some",
    errno.EDQUOT: "make room within the quota, or set TMPDIR to a folder that has some",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "set TMPDIR, HOME or the address to a place that can be written",
    errno.EACCES: "allow it, or give another place",
    errno.EPERM: "allow it, or give another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has no open file left",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.EIO: "the disk is failing; use another one",
}
"""What to do about what the system refuses."""

ELSEWHERE = {
    ("safety.policy.policy", "PolicyError"): "wrong",
    ("safety.pictures.profile", "ProfileError"): "wrong",
    ("flows.orchestration.prefect_settings", "ServerError"): "away",
    ("botocore.exceptions", "BotoCoreError"): "AWS",
    ("botocore.exceptions", "ClientError"): "AWS",
}
"""Errors of modules that take long to import: what raised one has imported it."""


def end_of(error: BaseException, command: str) -> tuple[str, int]:
    """Say in one sentence why a command ended, and with which exit code. What nobody foresaw is written to a file."""
    match error:
        case RequestError() | CheckpointError() | CredentialsError() | StoreAddressError():
            return str(error), WRONG_REQUEST  # what only loading a model or a certificate finds is no RequestError
        case StoreError() | CheckpointUnreachable() | NoTemporaryRoom() | DeviceLost():
            return str(error), OUT_OF_REACH
        case Stopped() | KeyboardInterrupt():
            return "Stopped. What was finished is stored; the same command goes on from there.", STOPPED
        case MemoryError():
            return f"This machine has too little free memory{_while(error)}: {REMEDIES[errno.ENOMEM]}.", OUT_OF_REACH
        case OSError() if error.errno in REMEDIES:
            where = f": {error.filename}" if error.filename is not None else ""
            refused = f"The system refuses{_while(error)} ({_words(error)}{where})"
            return f"{refused}; {REMEDIES[error.errno]}.", OUT_OF_REACH
    match _kind(error):
        case "wrong":
            return str(error), WRONG_REQUEST
        case "away":
            return str(error), OUT_OF_REACH
        case "AWS":
            return f"AWS isn't set up rightly{_while(error)}: {_words(error)}", OUT_OF_REACH
    return _fault(error, command), FAULT


def command_of(words: Sequence[str], groups: Sequence[str]) -> str:
    """Give the command that a command line names, without its arguments, which may hold a prompt."""
    named = [word for word in words if not word.startswith("-")][:2]
    return " ".join(["packshot", *(named if named[:1] and named[0] in groups else named[:1])])


def _kind(error: BaseException) -> str | None:
    """Find an error among those of `ELSEWHERE`."""
    for (module, name), kind in ELSEWHERE.items():
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return kind
    return None


def _fault(error: BaseException, command: str) -> str:
    doing = step_of(error)
    told = f"{command} came upon a fault of its own{f' while {doing}' if doing else ''} ({type(error).__name__})"
    file = write_traceback(error, f"{command}{f', {doing}' if doing else ''}")
    if file is None:
        return f"{told}, and the traceback can't be written: set XDG_STATE_HOME to a folder that can be written."
    return f"{told}; please report it with its traceback, which is in {file}."


def _while(error: BaseException) -> str:
    doing = step_of(error)
    return f" while {doing}" if doing else ""


def _words(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(said).split())

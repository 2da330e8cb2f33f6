"""How the run of this process ended, whether or not Prefect could be told so.

A flow's end is Prefect's to report, and where its server is away then, what comes out of the flow is that server's
trouble and not the run's end (Prefect 3.8.8). So the run leaves its end here, and whoever started the flow looks here.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from models.devices.gpu_presence import surely_no_gpu
from models.lost_device import DeviceLost, LanesLost
from tasks.job import Job
from tasks.processes.stopping import stop

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.reports.summary import Summary


LOSSES = "PACKSHOT_GPU_LOSSES"  # variable that counts the times that a command lost its GPU before it was begun again
MOST_LOSSES = 2  # after which it is begun again


@dataclass
class Ending:
    """The end of a run: a summary, or what ended it sooner; neither before that."""

    summary: Summary | None = None
    error: BaseException | None = None
    is_told: bool = True  # Prefect knows, or there was nothing to tell
    is_server_gone: bool = False  # that it was told to: it was there for this run alone
    code: int = 1  # that the process ends with
    given: Mapping[str, str] | None = None  # the environment of a command to whom this process belongs; None of others
    begins_again: bool = False  # as a new process

    def forget(self) -> None:
        """Begin another run."""
        self.summary, self.error, self.is_told, self.is_server_gone = None, None, True, False


ending = Ending()
"""Of the run that this process started last."""


def run_to_its_end(flow: Callable[[], State[Summary]]) -> Summary:
    """Run a flow to its final state, and end as its run does: with the summary, or with what ended the run sooner.

    Raises:
        BaseException: what ended the run sooner, or the flow before it.
    """
    ending.forget()
    try:
        state = flow()
    except Exception as error:
        if error is ending.error or (ending.summary is None and ending.error is None):
            raise
        ending.is_told = False
    if ending.summary is not None:
        return ending.summary
    if ending.error is not None:
        raise ending.error from None
    return state.result()  # the flow ended before its run began, and raises why


def lost_gpus(error: BaseException) -> int:
    """Return how often this command's run lost the GPU, if that is what ended it and it may begin again.

    0 for every other error, in a process that isn't the command's own, and where somebody asked the run to stop.
    """
    is_of_run = isinstance(error, DeviceLost) and not isinstance(error, LanesLost) and error is ending.error
    if not is_of_run or ending.given is None or stop.is_set():
        return 0
    before = ending.given.get(LOSSES, "")
    return 1 + (int(before) if before.isdecimal() else 0)


def kept_on_gpu(job: Job) -> Job:
    """Keep the job of a command that was begun again, because its GPU was lost, from going on without any.

    On a CPU it would be slow, and of another precision, in which all pictures are others.

    Raises:
        DeviceLost: if the GPU hasn't come back.
    """
    if job.hardware.device != "auto" or LOSSES not in os.environ:
        return job
    if surely_no_gpu():
        raise DeviceLost(
            "The GPU that was lost hasn't come back: see what the driver says of it (nvidia-smi, dmesg). What was "
            "finished is stored; the same command goes on from there."
        )
    return job.with_values(device="cuda")


def leave(code: object) -> NoReturn:
    """End the process; at once, where there is no server any more, or it doesn't know of the run's end.

    At the exit, Prefect's client goes through all that it couldn't tell, seven seconds each, though nobody answers
    (Prefect 3.8.8).
    """
    ending.code = code if isinstance(code, int) else int(code is not None)
    if ending.is_told and not ending.is_server_gone:
        sys.exit(ending.code)
    _end()


def own_process() -> None:
    """Have a command's own process end as soon as Python is through with its threads and all that is registered for it.

    What C++ libraries do after that goes wrong at times: of 48 commands that had read one small Parquet file on a busy
    machine, 7 were aborted when all was done, with SIGABRT for an exit code (pyarrow 26.0.1: "terminate called without
    an active exception").
    """
    ending.given = dict(os.environ)
    atexit.register(_end)  # what is registered later, as libraries are imported, is called before


def _end() -> NoReturn:
    logging.shutdown()
    if ending.begins_again:
        _begin_again()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending.code)


def _begin_again() -> None:
    """Become a new process with the same words; nothing of a GPU's state is left in it. Returns where that fails."""
    assert ending.given is not None
    assert ending.error is not None
    environment = {**ending.given, LOSSES: str(lost_gpus(ending.error))}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError as error:
        sys.stderr.write(f"It can't be begun again ({error.strerror}): give the command once more.\n")

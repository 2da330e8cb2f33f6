"""The command line: `packshot generate MANIFEST --store URI`."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from flows.commands import (
    calibration_commands,
    doctor_command,
    job_commands,
    manifest_command,
    models_commands,
    policy_command,
    review_commands,
    store_commands,
)
from flows.commands.exits import command_of, end_of
from flows.commands.options import GroupedHelp
from flows.commands.output import open_output, problems, say
from flows.orchestration import prefect_settings
from flows.orchestration.ending import MOST_LOSSES, ending, leave, lost_gpus, own_process
from tasks.kinds.registry import all_kinds

QUIET = {
    **prefect_settings.QUIET,
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}

GARBAGE_AFTER = 50_000  # new objects; Python's 700 have it look through all that is imported, for a tenth of a start

AGAIN = "the command begins again in a new process."
FOR_GOOD = (
    "that was loss {} of this command, so see what the driver says of it (nvidia-smi, dmesg). What was finished is "
    "stored; the same command goes on from there."
)


class CommandGroup(TyperGroup):
    """The command with all that are below it: whatever comes up in one ends it with a sentence and an exit code."""

    def invoke(self, context: typer.Context) -> Any:  # type: ignore[override]
        try:
            with _home():
                return super().invoke(context)
        except (SystemExit, typer.Exit, typer.TyperException):  # the last say what is wrong with the words
            raise
        except BaseException as error:  # noqa: BLE001  nothing leaves this as a traceback
            _end(error)


GROUPS = {
    "models": models_commands.app,
    "manifest": manifest_command.app,
    "policy": policy_command.app,
    "review": review_commands.app,
}
"""Commands that are named by two words, by the first one."""


def packshot() -> None:
    """Catalogue pictures in bulk: a manifest of prompts or pictures in, what is fit to publish and a catalogue out."""


def command_line() -> typer.Typer:
    """Put the commands together: one for each kind of job, and all others."""
    app = typer.Typer(
        cls=CommandGroup,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(packshot)
    for kind in all_kinds():
        app.command(kind.name, help=kind.does, cls=GroupedHelp)(job_commands.command_for(kind))
    for commands in (job_commands, doctor_command, calibration_commands, store_commands):
        app.add_typer(commands.app)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name)
    return app


def main() -> NoReturn:
    """Run the command."""
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        own_process()
        gc.set_threshold(GARBAGE_AFTER)
    for name, value in {**QUIET, **prefect_settings.PATIENT}.items():
        os.environ.setdefault(name, value)
    open_output()
    ending.forget()
    threading.excepthook = _end_of_thread
    logging.raiseExceptions = False  # or each log that Prefect can't be told is told to the terminal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            command_line()()
        except SystemExit as ended:
            leave(ended.code)
    raise AssertionError("typer ends the process itself")


@contextmanager
def _home() -> Iterator[None]:
    """Give a process of a user whom the system doesn't know a home for as long as it runs: libraries need one."""
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  Path.home raises where there is none
        yield
        return
    from models.files.temporary_folder import temporary_folder

    with temporary_folder() as home:
        os.environ["HOME"] = str(home)
        os.environ.setdefault("XDG_STATE_HOME", tempfile.gettempdir())  # a traceback is to outlast the process
        remembered = "There is no home folder, so nothing is remembered from one command to the next: set HOME."
        say(problems, remembered, "yellow")
        yield


def _end_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Say that a thread ended of what nobody foresaw; whoever waits for what it does goes on without."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        sentence, _ = end_of(failed.exc_value, f"{_command()}, beside its work,")
        say(problems, sentence, "yellow")


def _command() -> str:
    return command_of(sys.argv[1:], [*GROUPS])


def _end(error: BaseException) -> NoReturn:
    """End with a sentence and an exit code; or, where a new process is what the command needs, with one of that."""
    sentence, code = end_of(error, _command())
    if losses := lost_gpus(error):
        ending.begins_again = losses <= MOST_LOSSES
        sentence = f"{sentence.rstrip('.')}; {AGAIN if ending.begins_again else FOR_GOOD.format(losses)}"
    say(problems, sentence, "bold red")
    sys.exit(code)

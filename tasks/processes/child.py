"""Processes that end with the one that started them: `python -m tasks.processes.child DESCRIPTOR MODULE ARGUMENTS`.

A child holds the reading end of a pipe whose writing end its parent alone has, and leaves when that is closed. The
system closes it when the parent is gone, however that ended, and not sooner: Linux's own signal for it
(PR_SET_PDEATHSIG) also comes when just the thread has ended that started the child, and other systems have none.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

GONE = 70  # exit code of a child whose parent has gone: nobody is there to see it

_pipe: tuple[int, int] | None = None  # of this process, for all of its children
_opening = threading.Lock()


def start_child(
    module: str, *arguments: str, env: Mapping[str, str], pass_fds: tuple[int, ...] = (), **options: Any
) -> subprocess.Popen[bytes]:
    """Run a module as `python -m` does, in a process that ends with this one.

    `env` is all of its environment but for the way to our own modules. The rest is as `subprocess.Popen` takes it.

    Raises:
        OSError: if it can't be started.
    """
    watched = _reading_end()
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tasks.processes.child", str(watched), module, *arguments],
        env={**env, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        pass_fds=(watched, *pass_fds),
        **options,
    )


def _reading_end() -> int:
    global _pipe
    with _opening:
        if _pipe is None:
            _pipe = os.pipe()  # which no program inherits that isn't given it
        return _pipe[0]


def _let_go() -> None:
    """Let go of the parent's children after a fork: they aren't this process's, and mustn't live as long as it does."""
    global _pipe, _opening
    _opening = threading.Lock()
    if _pipe is not None:
        for descriptor in _pipe:
            os.close(descriptor)
        _pipe = None


os.register_at_fork(after_in_child=_let_go)


def _leave_with_parent(descriptor: int) -> None:
    os.read(descriptor, 1)  # nobody ever writes
    os._exit(GONE)


def main() -> None:
    """Run a module until it ends, or the parent does."""
    descriptor, module = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_leave_with_parent, args=(descriptor,), daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

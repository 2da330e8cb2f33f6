"""The processes of tests that run side by side, forked from one that has imported what takes long.

Each would import torch and what stands on it for ten seconds of the processor, and so would the process that its
commands are forked from. That one is shared by all, and they are forked from it, too.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from tests.forked import FORKER, ROOT, Forker, fork

START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.workers import start; start()"
AS_IMPORTED = """
import sys
from diffusers.utils import logging as of_diffusers
from huggingface_hub.utils import logging as of_hub
from transformers.utils import logging as of_transformers
for logging in (of_diffusers, of_hub, of_transformers):
    logging.set_verbosity_warning()  # commands are quieter
sys.modules["anyio"].__doc__ = "PYTEST_DONT_REWRITE"  # it brings a plugin, and is imported already
"""


def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Have xdist's processes forked, and their commands as well.

    Not where there is a GPU: libraries look for it when they are imported, and CUDA works in no process that was
    forked after that.
    """
    if Path("/dev/nvidiactl").exists():
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # see the tests' conftest; numpy reads it when it is imported
    os.environ[FORKER] = Forker().address
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-S", "-c", START])


def start() -> None:
    """Be the process that xdist starts: the forked one runs the last of its words, and this one ends as that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the forked one gets it, too
    source = AS_IMPORTED + sys.argv[-1]
    connection = fork(os.environ[FORKER], [0, 1, 2], (), dict(os.environ), source)
    for number in (0, 1):  # whoever started it sees the end of these when the forked one has ended
        os.close(number)
    connection.recv(100)
    ended = connection.recv(100)
    os._exit(int(ended) & 0xFF if ended else 1)

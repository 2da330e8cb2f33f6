"""Whether Triton's kernels can be built here."""

import logging
import os
import subprocess
from contextlib import suppress
from functools import cache

import torch

from models.failure import first_line
from models.files.cache_file import cache_folder

logger = logging.getLogger(__name__)


@cache
def builds_kernels() -> bool:
    """Say whether Triton is there and builds a kernel; if not, torch alone does the work: slower, but right.

    Triton builds a launcher with the system's C compiler at its first kernel, so a missing one shows only then. Whoever
    launches kernels asks here first, so none is built before it is known where built ones are kept.
    """
    if (problem := kernel_problem()) is not None:
        logger.warning("The model runs without its Triton kernels, and so more slowly: %s", problem)
    return problem is None


def kernel_problem() -> str | None:
    """Build a kernel and launch it on the current GPU; what went wrong, if anything."""
    keep_built_kernels()
    try:
        from models.kernels import vae_kernels

        vae_kernels.doubled(torch.zeros(1, 1, 1, 1, device="cuda"))
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return first_line(error)
    return None


def keep_built_kernels() -> None:
    """Have Triton keep what it builds in packshot's cache folder, unless TRITON_CACHE_DIR says where.

    Triton asks for the variable whenever it looks a kernel up (3.6 and 3.9). Where the folder can't be made, Triton's
    own default stands.
    """
    folder = cache_folder() / "triton"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TRITON_CACHE_DIR", str(folder))

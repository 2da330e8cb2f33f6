"""Whether Triton's kernels can be built here."""

import logging
import subprocess
from functools import cache

import torch

logger = logging.getLogger(__name__)


@cache
def builds_kernels() -> bool:
    """Whether Triton is there and builds a kernel; if not, torch alone does the work: slower, but right.

    Triton builds a launcher with the system's C compiler at its first kernel, so a missing one shows only then.
    """
    try:
        from models import vae_kernels

        vae_kernels.doubled(torch.zeros(1, 1, 1, 1, device="cuda"))
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        logger.warning("The model runs without its Triton kernels, and so more slowly: %s", error)
        return False
    return True

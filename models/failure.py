"""Why a row has no picture, and whose fault it is."""

from dataclasses import dataclass
from typing import Literal

import torch

Reason = Literal["prompt_too_long", "not_finite", "out_of_memory", "internal"]


class DeviceLost(RuntimeError):  # noqa: N818 it is what happened, not what was wrong
    """The GPU is in a state that only a new process leaves; no row is to blame."""


@dataclass(frozen=True)
class Failure:
    """Why a row has no picture."""

    reason: Reason
    message: str  # a sentence for people
    retryable: bool  # whether the same row may succeed another time


def blame(error: Exception) -> Literal["out_of_memory", "internal"]:
    """Say what an exception in a batch means for its rows.

    Raises:
        DeviceLost: if it means that every later call will fail, too (an illegal access, a failed assertion).
    """
    text = str(error)
    if (
        isinstance(error, torch.OutOfMemoryError)
        or "CUDA error: out of memory" in text
        or "CUBLAS_STATUS_ALLOC_FAILED" in text  # cuBLAS asks the driver for memory by itself
        or "can't allocate memory" in text  # torch's allocator on the CPU raises a plain RuntimeError
    ):
        return "out_of_memory"
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text:
        raise DeviceLost(f"The GPU failed and this process can't go on with it: {first_line(error)}") from error
    return "internal"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__

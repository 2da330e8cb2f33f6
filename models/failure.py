"""Why a row has no picture, and whose fault it is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from models.lost_device import DeviceLost

Value = TypeVar("Value")
Read = TypeVar("Read")

logger = logging.getLogger(__name__)

SHORT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What the driver, cuBLAS, which asks the driver for memory by itself, and torch's allocator on the CPU say then.

torch (2.15) raises a RuntimeError of each, which has no type, code or field that would tell it from others.
"""
OF_THE_DEVICE = "CUDA error"
"""How what cuBLAS and other libraries say of a lost GPU begins, in the same way."""

Cause = Literal["out_of_memory", "internal"]
Reason = Literal["prompt_too_long", "not_finite", "out_of_memory", "internal"]


@dataclass(frozen=True)
class Failure:
    """Why a row has no picture."""

    reason: Reason
    message: str  # a sentence for people
    retryable: bool  # whether the same row may succeed another time


def blame(error: Exception) -> Cause:
    """Say what an exception in a batch means for its rows.

    Raises:
        DeviceLost: if it means that every later call will fail, too (an illegal access, a failed assertion).
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(sentence in text for sentence in SHORT_OF_MEMORY):
        return "out_of_memory"
    if isinstance(error, torch.AcceleratorError) or OF_THE_DEVICE in text:
        raise DeviceLost(f"The GPU failed and this process can't go on with it: {first_line(error)}") from error
    return "internal"


def apart(
    step: Callable[[list[Read]], dict[Read, Value]], prompts: list[Read]
) -> tuple[dict[Read, Value], dict[Read, Failure]]:
    """Do `step` for all prompts at once; if that fails, for each by itself, so that only the guilty ones fail.

    Raises:
        DeviceLost: as `blame`.
    """
    try:
        return step(prompts), {}
    except Exception as error:  # noqa: BLE001 a prompt is what a stranger wrote
        _tell(error, "The text encoder failed of prompts.")
    done: dict[Read, Value] = {}
    failures: dict[Read, Failure] = {}
    for prompt in prompts:
        try:
            done |= step([prompt])
        except Exception as error:  # noqa: BLE001
            message = f"The text encoder failed on this row's prompt: {first_line(error).rstrip('.')}."
            failures[prompt] = Failure(_tell(error, "The text encoder failed of a prompt."), message, retryable=True)
    return done, failures


def _tell(error: Exception, what: str) -> Cause:
    """Log what is nobody's fault but ours, and say what an exception means for its rows."""
    cause = blame(error)
    if cause == "internal":
        logger.error(what, exc_info=error)
    return cause


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its class where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__

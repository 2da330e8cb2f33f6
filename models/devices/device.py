"""The device and the precision that a job's words stand for.

Apart from `models.loading.placement` so that asking needs torch alone: diffusers takes seconds to import.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from models.files.quantization_schemes import FOUR_BITS, SCHEMES
from models.files.safetensors_files import CheckpointError

PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.bfloat16,  # of all that isn't multiplied in float8
    **dict.fromkeys(map(str, SCHEMES), torch.bfloat16),  # of all that isn't kept in that scheme, and of the arithmetic
}
# CUDA compute capability from which on a GPU multiplies in it: Ampere's, and Ada's and Hopper's.
# https://docs.nvidia.com/cuda/cuda-c-programming-guide/#features-and-technical-specifications
BFLOAT16_CAPABILITY, FLOAT8_CAPABILITY = (8, 0), (8, 9)


@dataclass(frozen=True)
class Gpu:
    """What decides in which precisions a GPU can multiply."""

    name: str
    capability: tuple[int, int]  # CUDA compute capability


def find_device(device: str) -> torch.device:
    """Find the device that a job names; `auto` is CUDA where there is any, else the CPU.

    Raises:
        CheckpointError: if a device is asked for that there isn't, or isn't here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", device):
        raise CheckpointError(f"There is no device {device!r}", "use auto, cpu, cuda, or one GPU of several as cuda:1.")
    found = torch.device(device)
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise CheckpointError(
                f"The device is {device}, but torch finds no GPU", "check the driver, or use the cpu."
            )
        found = torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
        if found.index >= torch.cuda.device_count():
            raise CheckpointError(
                f"The device is {device}, but the last GPU that torch finds is cuda:{torch.cuda.device_count() - 1}",
                "use one that is there.",
            )
    return found


def find_precision(precision: str, device: torch.device) -> torch.dtype:
    """Find the precision that a job names; `auto` is bfloat16, as in training, on CUDA, and float32 on the CPU.

    Raises:
        CheckpointError: if there is no such precision, or the GPU can't multiply in it, or what it needs isn't
            installed. A CPU can multiply in all: in float8 it multiplies the same numbers in float32.
    """
    return choose_precision(precision, find_gpu(device))


def find_gpu(device: torch.device) -> Gpu | None:
    """Return the GPU that a device is, or None of the CPU."""
    if device.type != "cuda":
        return None
    return Gpu(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))


def choose_precision(precision: str, gpu: Gpu | None) -> torch.dtype:
    """Find a precision as `find_precision` does, on a GPU or on the CPU (None)."""
    if precision != "auto" and precision not in PRECISIONS:
        raise CheckpointError(f"The precision {precision} is unknown", f"use auto or one of {', '.join(PRECISIONS)}.")
    if precision in FOUR_BITS and find_spec("bitsandbytes") is None:
        raise CheckpointError(
            f"The precision {precision} needs bitsandbytes, which isn't installed",
            "install it, or use weights of 8 bits or more.",
        )
    if gpu is None:
        return PRECISIONS["float32" if precision == "auto" else precision]
    wanted = "bfloat16" if precision == "auto" else precision
    best = "bfloat16" if gpu.capability >= BFLOAT16_CAPABILITY else "float16"
    multiplied = PRECISIONS[wanted]
    least = (0, 0) if multiplied is not torch.bfloat16 else BFLOAT16_CAPABILITY
    if gpu.capability < (FLOAT8_CAPABILITY if wanted == "float8" else least):
        asked = "auto, which is bfloat16" if precision == "auto" else wanted
        numbers = "float8" if wanted == "float8" else str(multiplied).removeprefix("torch.")
        raise CheckpointError(
            f"The precision is {asked}, and {gpu.name} (compute capability {dotted(gpu.capability)}) can't multiply "
            f"in {numbers}",
            f"use {best}.",
        )
    return multiplied


def dotted(version: tuple[int, int]) -> str:
    """Return a version as people write it: (8, 9) → 8.9."""
    return f"{version[0]}.{version[1]}"

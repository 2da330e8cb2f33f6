"""The device and the precision that a job's words stand for.

Apart from `models.placement` so that asking needs torch alone: diffusers takes seconds to import.
"""

from importlib.util import find_spec

import torch

from models.forms import FORMS, FOUR_BITS
from models.weights import CheckpointError

PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.bfloat16,  # of all that isn't multiplied in float8
    **dict.fromkeys(map(str, FORMS), torch.bfloat16),  # of all that isn't kept in that form, and of the arithmetic
}
FLOAT8_CAPABILITY = (8, 9)  # CUDA compute capability: Ada, and Hopper after it


def find_device(device: str) -> torch.device:
    """`auto` is CUDA where there is any, else the CPU.

    Raises:
        CheckpointError: if a device is asked for that isn't there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise CheckpointError("The device is cuda, but torch finds no GPU; check the driver, or use the cpu.")
        found = torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
    return found


def find_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16, in which Qwen-Image was trained, on CUDA, and float32 on the CPU.

    Raises:
        CheckpointError: if there is no such precision, or the GPU can't multiply in it, or what it needs isn't
            installed. A CPU can multiply in float8: it multiplies the same numbers in float32.
    """
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise CheckpointError(f"The precision {precision} is unknown; use auto or one of {', '.join(PRECISIONS)}.")
    if precision == "float8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < FLOAT8_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise CheckpointError(f"The precision is float8, which {name} can't multiply in; use bfloat16.")
    if precision in FOUR_BITS and find_spec("bitsandbytes") is None:
        raise CheckpointError(
            f"The precision {precision} needs bitsandbytes, which isn't installed; "
            "install it, or use weights of 8 bits or more."
        )
    return PRECISIONS[precision]

"""Where the model's parts live.

Three placements, chosen by the memory that is free when the model is opened:

- **resident**: everything stays on the device. Qwen-Image takes 38.3 + 15.5 GiB in bfloat16.
- **staged**: the text encoder lives in host memory and comes in only to encode the prompts of a shard, since offline
  work can go stage by stage; the transformer and the VAE stay.
- **streamed**: the transformer's blocks come from host memory one after another, each hidden behind the arithmetic of
  the one before, and the text encoder as in staged. Full batches make this as fast as resident (one H200, 1024²: 18.1 s
  a picture at batch 8, in 4.7 GiB), which is why streamed batches are larger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers import ModelMixin

Placement = Literal["resident", "staged", "streamed"]
GIB = 2**30
WORK_BYTES = 6 * GIB  # denoising takes 0.5 GiB a picture of 1024², decoding one 0.6 GiB: see benchmarks


def choose_placement(text_encoder_bytes: int, transformer_bytes: int, budget: int) -> Placement:
    """The first placement, fastest first, that fits `budget` bytes of device memory and leaves room to work."""
    if text_encoder_bytes + transformer_bytes + WORK_BYTES <= budget:
        return "resident"
    # Nothing is denoised or decoded while the text encoder is in, so it shares the memory that work needs.
    if transformer_bytes + max(text_encoder_bytes, WORK_BYTES) <= budget:
        return "staged"
    return "streamed"


def stream(transformer: ModelMixin, device: torch.device) -> None:
    """Stream the blocks of a diffusers transformer from host memory, one ahead of the arithmetic."""
    on_gpu = device.type == "cuda"
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=on_gpu,
        record_stream=on_gpu,
    )


def free_memory(device: torch.device) -> int:
    """Bytes of GPU memory that torch could still use: the driver's free memory and torch's own unused blocks."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


@contextmanager
def brought_in(module: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Bring a module from host memory to `device` for a while, if there is room; else it is used where it is.

    The host's copy is kept, so that leaving costs nothing.
    """
    parameters = list(module.parameters())
    is_there = all(parameter.device == device for parameter in parameters)
    needed = sum(parameter.nbytes for parameter in parameters)
    if is_there or (device.type == "cuda" and free_memory(device) < needed + GIB):
        yield
        return
    home = [
        (part, name, parameter, parameter.data)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
    ]
    module.to(device)
    try:
        yield
    finally:
        for part, name, parameter, data in home:
            parameter.data = data
            setattr(part, name, parameter)
        module.to("cpu")  # the buffers
        if device.type == "cuda":
            torch.cuda.empty_cache()

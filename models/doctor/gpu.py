"""Whether a GPU can run what torch is built for, and how much of its memory is free.

What there is to know is read into `GpuFacts`; what it means is decided by functions of these facts alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from models.devices.device import Gpu, choose_precision, dotted, find_device, find_gpu
from models.files.safetensors_files import CheckpointError
from models.finding import Finding
from models.units import GIB

MUCH_TAKEN = 0.1  # of the memory, by others: a driver and a desktop take less


@dataclass(frozen=True)
class GpuFacts:
    """One GPU that torch can use."""

    device: str  # as a job would name it: cuda:0
    gpu: Gpu
    count: int  # GPUs that torch finds
    architectures: tuple[str, ...]  # that this torch has kernels for: sm_80, sm_90a, compute_120
    free: int  # bytes
    total: int  # bytes


def check_gpu(device: str) -> list[Finding]:
    """Say which GPU a job would use, if it would use one, and its memory; or that there is no such device."""
    try:
        found = find_device(device)
    except CheckpointError as error:
        if device.startswith("cuda") and not torch.cuda.is_available():
            return []  # `models.doctor.driver` says why
        return [Finding.refused("device", error, "Use the device auto.", fault="request")]
    if found.type != "cuda":
        return []
    facts = read_gpu(found)
    return [judge_gpu(facts), judge_gpu_memory(facts)]


def check_precision(device: str, precision: str) -> list[Finding]:
    """Say whether the device that a job names can multiply in the precision that it names."""
    found = usable(device)
    return [] if found is None else [judge_precision(precision, find_gpu(found))]


def usable(device: str) -> torch.device | None:
    """Return the device that a job names, if it is there."""
    try:
        return find_device(device)
    except CheckpointError:
        return None


def read_gpu(device: torch.device) -> GpuFacts:
    """Ask torch about a CUDA device."""
    gpu = find_gpu(device)
    if gpu is None:
        raise ValueError(f"{device} is no GPU")
    free, total = torch.cuda.mem_get_info(device)
    return GpuFacts(
        str(device), gpu, torch.cuda.device_count(), tuple(torch.cuda.get_arch_list()), int(free), int(total)
    )


def judge_gpu(facts: GpuFacts) -> Finding:
    """Say whether this torch has kernels for the GPU."""
    gpu = facts.gpu
    which = facts.device if facts.count == 1 else f"{facts.device} of {facts.count}"
    name = f"{gpu.name} ({which}) has compute capability {dotted(gpu.capability)}"
    if not facts.architectures or any(_runs_on(gpu.capability, built) for built in facts.architectures):
        return Finding.ok("GPU", f"{name}.")
    return Finding.failed(
        "GPU",
        f"{name}, and torch has kernels for {', '.join(facts.architectures)} alone.",
        "Install a torch that is built for this GPU, or use another GPU.",
    )


def judge_gpu_memory(facts: GpuFacts) -> Finding:
    """Say whether somebody else has taken much of the GPU's memory."""
    found = f"{facts.free / GIB:.1f} of {facts.total / GIB:.1f} GiB are free."
    if facts.total - facts.free <= MUCH_TAKEN * facts.total:
        return Finding.ok("GPU memory", found)
    return Finding.warning(
        "GPU memory",
        found,
        "End what has taken the rest (`nvidia-smi` lists it): with less memory, batches are smaller.",
    )


def judge_precision(precision: str, gpu: Gpu | None) -> Finding:
    """Say whether the device can multiply in the precision that a job names."""
    where = gpu.name if gpu else "the CPU"
    try:
        dtype = choose_precision(precision, gpu)
    except CheckpointError as error:
        return Finding.refused("precision", error, "Use the precision auto.", fault="request")
    own = str(dtype).removeprefix("torch.")
    if precision == "float8" and gpu is None:
        return Finding.warning(
            "precision",
            "The CPU rounds to float8 and multiplies in float32, which is slow.",
            "Use the precision auto, unless it is for trying float8 out.",
        )
    how = f"auto is {own} on {where}" if precision == "auto" else f"{where} multiplies in {precision}"
    return Finding.ok("precision", f"{how[0].upper()}{how[1:]}.")


def _runs_on(capability: tuple[int, int], built: str) -> bool:
    """Whether code for an architecture runs on a GPU.

    Machine code runs on its own major version from its minor version on, on the very same with an `a`, on its family
    with an `f`; what is called `compute` is compiled again for every newer GPU.
    https://docs.nvidia.com/cuda/blackwell-compatibility-guide/
    """
    parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", built)
    if parts is None:
        return False
    kind, (major, minor), suffix = parts[1], (int(parts[2]), int(parts[3])), parts[4]
    if suffix == "a":
        return capability == (major, minor)
    if kind == "compute":
        return capability >= (major, minor)
    return capability[0] == major and capability[1] >= minor

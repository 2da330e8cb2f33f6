"""Whether the kernels that make a GPU fast run on it: torch's for attention, and those that Triton builds.

Kernels are tried, not asked for: what a library says of itself and what runs here have been known to differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.attention import sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from models.devices.attention import Attention, backends
from models.devices.device import find_precision
from models.doctor.gpu import usable
from models.failure import first_line
from models.files.safetensors_files import CheckpointError
from models.finding import Finding
from models.kernels.triton_check import kernel_problem

NAMES = {"cudnn": "cuDNN's", "flash": "flash", "efficient": "efficient", "math": "math"}
HEAD_DIM = 128  # Qwen-Image's


@dataclass(frozen=True)
class AttentionFacts:
    """What torch's attention kernels did when they were tried."""

    dtype: str
    problems: Mapping[str, str | None]  # by the name that a job gives a kernel: None, or what it said


def check_attention(device: str, precision: str, wanted: Attention) -> list[Finding]:
    """Say which attention kernels the GPU has that a job would use; on a CPU there is nothing to choose."""
    found = usable(device)
    if found is None or found.type != "cuda":
        return []
    try:
        dtype = find_precision(precision, found)
    except CheckpointError:
        return []  # `models.doctor.gpu` says so
    return [judge_attention(try_attention(found, dtype), wanted)]


def check_triton(device: str) -> list[Finding]:
    """Say which kernels Triton builds for the GPU that a job would use; on a CPU there are none."""
    found = usable(device)
    if found is None or found.type != "cuda":
        return []
    with torch.cuda.device(found):
        problem = kernel_problem()
        torch.cuda.synchronize()
    return [judge_triton(problem)]


def try_attention(device: torch.device, dtype: torch.dtype) -> AttentionFacts:
    """Call every attention kernel of torch on a few numbers.

    What torch has switched off (`torch.backends.cuda`) is no matter: whoever names kernels switches them on.
    """
    numbers = torch.ones(1, 2, 64, HEAD_DIM, device=device, dtype=dtype)
    problems: dict[str, str | None] = {}
    for name, backend in backends().items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with sdpa_kernel(backend):
                    scaled_dot_product_attention(numbers, numbers, numbers)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                problems[name] = None
            except RuntimeError as error:  # torch's own error says only that there is no kernel
                problems[name] = first_line(Warning(said[-1].message) if said else error)
    return AttentionFacts(str(dtype).removeprefix("torch."), problems)


def judge_attention(facts: AttentionFacts, wanted: Attention) -> Finding:
    """Say whether a fast kernel runs, and the one that a job names."""
    working = [name for name, problem in facts.problems.items() if problem is None]
    fast = [name for name in working if name != "math"]
    if not working:
        return Finding.failed(
            "attention",
            f"No kernel runs in {facts.dtype}: {facts.problems['math']}",
            "Use another precision, or install torch again as requirements.lock has it: `make install`.",
        )
    listed = " and ".join(filter(None, [", ".join(NAMES[name] for name in working[:-1]), NAMES[working[-1]]]))
    found = f"In {facts.dtype} {'these kernels run' if len(working) > 1 else 'one kernel runs'}: {listed}."
    if wanted != "auto" and wanted not in working:
        return Finding.warning(
            "attention",
            f"The job names {NAMES[wanted]}, which doesn't run in {facts.dtype}: {facts.problems[wanted]}",
            f"Name none, or one that runs: {', '.join(working)}.",
        )
    if not fast:
        return Finding.warning(
            "attention",
            found + " It is slow and takes much memory.",
            "Use bfloat16 or float16, and the torch of requirements.lock.",
        )
    return Finding.ok("attention", found)


def judge_triton(problem: str | None) -> Finding:
    """Say whether Triton builds kernels, by what `models.kernels.triton_check.kernel_problem` says."""
    if problem is None:
        return Finding.ok("Triton", "Triton builds kernels and they run.")
    if "No module named" in problem:
        do = "Install triton, in the version that torch names."
    elif "C compiler" in problem:
        do = "Install a C compiler such as gcc, or name one in CC."
    elif "non-zero exit status" in problem:
        do = "See that the C compiler finds Python's headers: install python3-dev or its like."
    else:
        do = "Install torch and triton again as requirements.lock has them: `make install`."
    return Finding.warning("Triton", f"No kernels are built, so the model runs more slowly: {problem.rstrip('.')}.", do)

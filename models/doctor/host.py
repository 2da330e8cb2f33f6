"""The memory of the host, which weights go through or stay in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from models.checkpoints.checkpoint import Checkpoint
from models.devices.device import choose_precision
from models.doctor.gpu import usable
from models.files.quantization_schemes import (
    DIFFUSERS,
    TRANSFORMERS,
    QuantizationSchemes,
    count_bytes,
    kept_precision,
    scheme_for,
)
from models.finding import Finding
from models.units import GIB

LITTLE = 2 * GIB  # what a run takes beside its weights: with the miniature's, 1.4 GiB in all
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostFacts:
    """Memory in bytes."""

    total: int
    available: int  # without swapping
    limit: int | None = None  # of this container, where it has one
    used: int = 0  # of this limit, without files that are only cached


def check_host(device: str, precision: str, checkpoint: Checkpoint | None, lanes: int = 1) -> list[Finding]:
    """Say whether there is room for what a job keeps in host memory: on a CPU each lane's whole checkpoint, if any."""
    found = usable(device)
    weights = 0
    if checkpoint is not None and found is not None and found.type == "cpu":
        kept = kept_precision(precision, checkpoint.folder)
        weights = weights_in(checkpoint.folder, kept, choose_precision(kept, None).itemsize)
    return [judge_host(read_host(), weights, lanes)]


def read_host(cgroups: Path = CGROUPS) -> HostFacts:
    """Ask the kernel, also for the limit of a container."""
    memory = psutil.virtual_memory()
    # Version 2 of control groups and version 1, as a container sees its own.
    # https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    for limit_file, used_file, statistics, cached in (
        ("memory.max", "memory.current", "memory.stat", "file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_cache"),
    ):
        with suppress(OSError, ValueError):  # no such file; `max` for none
            limit = int((cgroups / limit_file).read_text())
            if limit < memory.total:
                used = int((cgroups / used_file).read_text())
                counts = dict(line.split() for line in (cgroups / statistics).read_text().splitlines())
                return HostFacts(memory.total, memory.available, limit, used - int(counts.get(cached, 0)))
    return HostFacts(memory.total, memory.available)


def weights_in(folder: Path, precision: str, itemsize: int) -> int:
    """Bytes that a checkpoint's text encoder, transformer and VAE take in a precision.

    Args:
        itemsize: bytes of a number that is kept as a float.

    Raises:
        CheckpointError: if weights are stored in a form that packshot doesn't read.
    """
    schemes = QuantizationSchemes.of(folder, scheme_for(precision, folder), changed=False)
    return (
        count_bytes(folder / "text_encoder", TRANSFORMERS, itemsize, schemes.text_encoder)
        + count_bytes(folder / "transformer", DIFFUSERS, itemsize, schemes.transformer)
        + count_bytes(folder / "vae", DIFFUSERS, itemsize, None)
    )


def judge_host(facts: HostFacts, weights: int, lanes: int = 1) -> Finding:
    """Say whether there is room.

    Args:
        facts: what `read_host` found.
        weights: bytes of a lane's weights that stay in host memory; 0 for a model that lives on a GPU.
        lanes: how many there are on this machine, each of which has its own.
    """
    needed = lanes * (weights + LITTLE)
    most = facts.total if facts.limit is None else facts.limit
    free = facts.available if facts.limit is None else min(facts.available, facts.limit - facts.used)
    found = f"{free / GIB:.1f} of {most / GIB:.1f} GiB are free"
    if facts.limit is not None:
        found += " in this container"
    if free >= needed:
        return Finding.ok("host memory", f"{found}.")
    takes = f"the model takes {weights / GIB:.1f} GiB there" if weights else f"a run takes about {LITTLE / GIB:.0f} GiB"
    takes += f" in each of {lanes} lanes" if lanes > 1 else ""
    found += f", and {takes}."
    if most < needed and weights:
        fewer = ", fewer lanes" if lanes > 1 else ""
        do = f"Use a machine with more memory{fewer}, a GPU, or the precision bfloat16."
        return Finding.failed("host memory", found, do)
    larger = "give this container more, or " if facts.limit is not None else ""
    do = f"{larger}end what takes the rest."
    return Finding.warning("host memory", found, do[0].upper() + do[1:])

"""Where a job's model would be placed, what else was looked at, and why this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from models.checkpoints.checkpoint import Checkpoint, check_condition_cache
from models.devices.device import find_precision
from models.doctor.gpu import usable
from models.doctor.host import HostFacts, judge_host, read_host
from models.engines.engine import MOST_ROWS
from models.files.quantization_schemes import kept_precision, scheme_for
from models.files.safetensors_files import CheckpointError
from models.finding import Finding
from models.loading.optimization_options import OptimizationOptions
from models.memory.bus_rate import shared_bus_rate
from models.memory.memory_plan import Candidate, MemoryPlan
from models.memory.placement_choice import Budget, plan_of, sizes_of
from models.placement_names import WantedPlacement
from models.units import GIB

SHARING = "lanes that stream"
SLOWED = 1.1  # times as long as one alone: from here on lanes beside each other are worth a warning
SMALL = GIB  # bytes of a model that a CPU draws with in good time


def check_placement(
    checkpoint: Checkpoint,
    *,
    device: str,
    precision: str,
    options: OptimizationOptions,
    wanted: WantedPlacement,
    gpu_memory: int | None,
    memory_fraction: float,
    batch: int | None,
    changed: bool,
    controlnet: Checkpoint | None,
    lanes: int = 1,
) -> list[Finding]:
    """Say what each placement would take of the device for pictures as the checkpoint has them by itself.

    Args:
        lanes: how many there are on this machine, each on a GPU of its own.
        options: those of the job but float8, which its precision says.
        changed: whether LoRAs are merged.
    """
    try:
        check_condition_cache(checkpoint, options.condition_cache)
    except CheckpointError as error:
        return [Finding.refused("placement", error, "", "request")]
    found = usable(device)
    if found is None:
        return []
    precision = kept_precision(precision, checkpoint.folder)
    try:
        dtype = find_precision(precision, found)
    except CheckpointError:
        return []  # another check says it
    scheme = scheme_for(precision, checkpoint.folder)
    sizes = sizes_of(checkpoint, dtype, scheme=scheme, options=options, changed=changed, controlnet=controlnet)
    most = min(batch or MOST_ROWS, MOST_ROWS)
    if found.type != "cuda":
        told = f"Everything is in host memory: {_gib(sizes.whole)} of weights"
        if sizes.whole > SMALL:
            do = "Use a GPU: streamed, this model fits one of 8 GiB." if sizes.whole > 8 * GIB else "Use a GPU."
            return [Finding.warning("placement", f"{told}, and a CPU takes minutes or hours a picture.", do)]
        unknown = "How long a picture takes isn't known before one was drawn here; the summary of a run says it"
        return [Finding.ok("placement", f"{told}. {unknown}.")]
    budgets = Budget.of(device, found, memory_fraction, gpu_memory).all()
    try:
        plan = plan_of(checkpoint, found, dtype, sizes, scheme=scheme, options=options, budgets=budgets, most=most)
        gpus = [torch.device("cuda", index) for index in range(min(lanes, torch.cuda.device_count()))]
        return judge_plan(plan, wanted, read_host(), lanes=lanes, shared_bus=partial(shared_bus_rate, gpus))
    except CheckpointError as error:
        return [Finding.failed("placement", str(error), "Free memory, or use a larger GPU.", "request")]


def judge_plan(
    plan: MemoryPlan,
    wanted: WantedPlacement,
    host: HostFacts,
    *,
    lanes: int = 1,
    shared_bus: Callable[[], float] | None = None,
) -> list[Finding]:
    """Say which placement is taken, why not another, and how several lanes get on beside each other.

    Args:
        lanes: how many there are on this machine.
        shared_bus: measures the bytes a second that come to each lane's GPU while all of them are copied to.

    Raises:
        CheckpointError: if none fits.
    """
    taken = plan.taken()
    if wanted != "auto":
        asked = [candidate for candidate in plan.candidates if candidate.placement.kind == wanted]
        if not asked:
            do = "Leave placement to auto."
            return [Finding.failed("placement", "There is no second GPU, or none with room.", do, "request")]
        (taken,) = asked
    others = _told([candidate for candidate in plan.candidates if candidate is not taken], plan)
    if not taken.rows:
        found = f"{_named(taken)}: {_gib(taken.bytes)} for one picture at a time, more than the {_gib(plan.budget)} "
        do = "Leave placement to auto."
        return [Finding.failed("placement", f"{found}that may be used.", do, "request"), *others]
    why = "as it was asked for" if wanted != "auto" else "the first that fits"
    found = (
        f"{_named(taken)}, {why}: {_seconds(taken)}, {_gib(taken.bytes)} of the {_gib(plan.budget)} that may be used"
    )
    waiting = taken.placement.host_weights(plan.sizes)
    if waiting:
        found += f"; {_gib(waiting)} wait in host memory"
    findings = [Finding("placement", "ok", f"{found}.", data=_data(plan, taken)), *others]
    if lanes > 1 and taken.placement.kind == "streamed" and shared_bus is not None:
        findings.append(_judge_sharing(plan, taken, lanes, shared_bus()))
    room = judge_host(host, waiting, lanes)
    return findings if room.status == "ok" or not waiting else [*findings, room]


def _judge_sharing(plan: MemoryPlan, taken: Candidate, lanes: int, bus: float) -> Finding:
    """Say what lanes that stream their weights at once take from each other."""
    alone, beside = (plan.forecast(taken.placement, taken.rows, bus=rate).seconds for rate in (None, bus))
    found = (
        f"{lanes} lanes that stream get {bus / 1e9:.1f} GB/s each, and one alone {plan.benchmark.bus / 1e9:.1f}: "
        f"{beside:.2f} s a picture in each, and {alone:.2f} in one alone."
    )
    if beside <= SLOWED * alone:
        return Finding.ok(SHARING, found)
    do = (
        "Give each lane more of its GPU's memory or a precision of fewer bits, so that it streams less, or fewer lanes."
    )
    return Finding.warning(SHARING, found, do)


def _told(candidates: Sequence[Candidate], plan: MemoryPlan) -> list[Finding]:
    return [
        Finding.left_out(
            candidate.placement.kind,
            f"{_named(candidate)}: {_seconds(candidate)}, {_gib(candidate.bytes)}."
            if candidate.rows
            else f"{_named(candidate)}: {_gib(candidate.bytes)} for one picture at a time, "
            f"more than the {_gib(plan.budget)} that may be used.",
        )
        for candidate in candidates
    ]


def _named(candidate: Candidate) -> str:
    name = str(candidate.placement)
    return name[0].upper() + name[1:]


def _seconds(candidate: Candidate) -> str:
    rows = "one at a time" if candidate.rows == 1 else f"{candidate.rows} at a time"
    return f"{candidate.seconds:.2f} s a picture, {rows}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"


def _data(plan: MemoryPlan, taken: Candidate) -> dict[str, Any]:
    """For machines."""
    return {
        "budget_bytes": plan.budget,
        "candidates": [
            {
                "placement": str(candidate.placement),
                "taken": candidate is taken,
                "rows": candidate.rows,
                "bytes": candidate.bytes,
                "seconds": candidate.seconds,
            }
            for candidate in plan.candidates
        ],
    }

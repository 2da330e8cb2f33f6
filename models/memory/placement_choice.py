"""Which placement a checkpoint is opened in, and how it compares with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from models.architectures.architecture_registry import architecture_of
from models.checkpoints.checkpoint import Checkpoint, own_workload, pipeline_of, sees_pictures, writes_captions
from models.files.quantization_schemes import QuantizationScheme
from models.files.safetensors_files import CheckpointError, read_json
from models.loading.optimization_options import OptimizationOptions
from models.loading.placement import RESIDENT, Placement, free_memory, limit_memory
from models.loading.sizes import Sizes, read_sizes
from models.memory.block_benchmark import benchmark_block
from models.memory.memory_plan import MemoryPlan
from models.placement_names import Kind, WantedPlacement
from models.sampling.prompt_embeds import TEXT_BATCH_TOKENS
from models.units import GIB

ANY_GPU = ("auto", "cuda")  # devices of a job that name no GPU, so that it may use several
AMPLE = 8 * GIB  # beside the weights: with so much, nothing needs to be tried


def choose_placement(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    *,
    scheme: QuantizationScheme | None,
    options: OptimizationOptions,
    wanted: WantedPlacement,
    budget: Budget,
    most: int,
    changed: bool = False,
    controlnet: Checkpoint | None = None,
) -> tuple[Placement, MemoryPlan | None]:
    """Return the placement that is wanted, or the fastest that fits.

    Where that isn't plain to see, the plan that it was chosen by comes with it.

    Args:
        most: rows of a batch at most.
        changed: whether a LoRA changes the weights.

    Raises:
        CheckpointError: if the checkpoint's weights aren't whole, or if it can't be placed so.
    """
    own = budget.own()
    if wanted == "balanced" and (own is None or not budget.may_use_others or torch.cuda.device_count() < 2):
        raise CheckpointError(
            "A balanced placement needs several GPUs, none of which the job names as its device",
            "leave placement to auto, or set device to cuda where there are several.",
        )
    if wanted == "resident" or (wanted == "auto" and own is None):
        return RESIDENT, None
    sizes = sizes_of(checkpoint, dtype, scheme=scheme, options=options, changed=changed, controlnet=controlnet)
    if own is None:
        kind: Kind = "staged" if wanted == "staged" else "streamed"
        return Placement(kind, sizes.blocks, sizes.blocks if kind == "staged" else 0), None
    if wanted == "auto" and sizes.whole + AMPLE <= own:
        return RESIDENT, None
    budgets = budget.all()
    plan = plan_of(checkpoint, device, dtype, sizes, scheme=scheme, options=options, budgets=budgets, most=most)
    if wanted == "auto":
        return plan.taken().placement, plan
    for candidate in plan.candidates:
        if candidate.placement.kind == wanted:
            return candidate.placement, plan
    raise CheckpointError(f"All {len(budgets)} GPUs together have no room for the model", "leave placement to auto.")


def sizes_of(
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    *,
    scheme: QuantizationScheme | None,
    options: OptimizationOptions,
    changed: bool = False,
    controlnet: Checkpoint | None = None,
) -> Sizes:
    """Bytes of a checkpoint's weights, as they are loaded."""
    return read_sizes(
        checkpoint.folder,
        dtype.itemsize,
        scheme,
        float8=options.float8,
        fused=options.fused,
        changed=changed,
        unused=architecture_of(pipeline_of(checkpoint).name).unused(
            sees=sees_pictures(checkpoint), writes=writes_captions(checkpoint)
        ),
        controlnet=controlnet.folder if controlnet else None,
    )


def plan_of(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    sizes: Sizes,
    *,
    scheme: QuantizationScheme | None,
    options: OptimizationOptions,
    budgets: Mapping[str, int],
    most: int,
) -> MemoryPlan:
    """Return all placements of a checkpoint, for pictures as its own settings have them.

    Raises:
        CheckpointError: if the device has no room for a block.
    """
    pipeline = pipeline_of(checkpoint)
    workload = own_workload(checkpoint, pipeline)
    try:
        benchmark = benchmark_block(
            checkpoint.folder, pipeline.name, workload, device, dtype, scheme=scheme, options=options
        )
    except torch.OutOfMemoryError:
        raise CheckpointError(
            f"{device} has no room for one block of the model and one picture of {workload.shape}",
            "free some of its memory, use a larger GPU, or device cpu.",
        ) from None
    looks = sees_pictures(checkpoint) or writes_captions(checkpoint)
    encoding = _encoding(checkpoint, dtype) + (sizes.text_on_host if looks else 0)
    return MemoryPlan(sizes, benchmark, budgets, encoding, most)


@dataclass(frozen=True)
class Budget:
    """How much of GPUs' memory a model may use."""

    device: torch.device
    may_use_others: bool  # GPUs beside `device`
    memory_fraction: float = 1.0  # of what is free
    most: int | None = None  # bytes of each GPU that this process may use; None for all

    @classmethod
    def of(cls, device: str, found: torch.device, memory_fraction: float, most: int | None) -> Budget:
        """Return the budget of a job, whose word for its device `found` is."""
        return cls(found, device in ANY_GPU, memory_fraction, most)

    def own(self) -> int | None:
        """Bytes that may be used of the device's memory; None on the CPU."""
        return self._bytes(self.device) if self.device.type == "cuda" else None

    def all(self) -> dict[str, int]:
        """Bytes that may be used of each GPU's memory, by its name, the device first. Wakes them all up."""
        others = [
            torch.device("cuda", index) for index in range(torch.cuda.device_count() if self.may_use_others else 0)
        ]
        gpus = [self.device, *(gpu for gpu in others if gpu != self.device)]
        return {str(gpu): self._bytes(gpu) for gpu in gpus}

    def _bytes(self, gpu: torch.device) -> int:
        if self.most is not None:
            limit_memory(gpu, self.most)
        return int(free_memory(gpu) * self.memory_fraction)


def _encoding(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes that a layer of the text encoder takes beside its weights at most, and the states before and after it."""
    config = read_json(checkpoint.folder / "text_encoder" / "config.json")
    config = config.get("text_config") or config
    width = 3 * int(config["intermediate_size"]) + 8 * int(config["hidden_size"])
    return TEXT_BATCH_TOKENS * width * dtype.itemsize

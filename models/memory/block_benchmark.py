"""What a model of this size takes of this device, tried on one of its blocks before any weight is loaded.

All blocks of the transformer have one size, and what they compute takes the same time whatever their weights are: so
one with random weights, gone through a few times, tells what all of them take.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from models.architectures.architecture_registry import architecture_of, rules_of
from models.files.quantization_schemes import QuantizationScheme
from models.loading.component import loading
from models.loading.components import Components
from models.loading.optimization_options import OptimizationOptions, open_predictor
from models.loading.placement import RESIDENT
from models.memory.bus_rate import bus_rate
from models.memory.measure import Cost, measure_decoding, measure_step, warm_up
from models.requests import Workload
from models.sampling.latents import token_size
from models.transformer.predictor import Predictor, tokens_of
from models.transformer.quantized import compress

FEW, MORE = 2, 6  # blocks that are gone through: what they differ by is the blocks' own
ROWS = (1, 2, 4)
TOKENS = 128  # of a prompt
TIMES = 6  # that a step is tried


@dataclass(frozen=True)
class BlockBenchmark:
    """What was found for rows of one workload."""

    workload: Workload
    block: Mapping[int, float]  # seconds that a block takes, by rows
    beside: Mapping[int, Cost]  # what a step takes beside its blocks, by rows; their bytes are of both
    decoding: Cost  # of a row
    bus: float  # bytes a second, from pinned host memory to the device
    kept: int = 0  # bytes that each block keeps of a row from step to step, beside all that

    def step_seconds(self, blocks: int, rows: int) -> float:
        """Return the seconds of one step of so many rows through so many blocks that are on the device."""
        block, beside = (
            _line(self.block),
            _line({r: c.seconds for r, c in self.beside.items()}),
        )
        return blocks * block(rows) + beside(rows)

    def format(self) -> str:
        """Return what was found, in a line."""
        blocks = ", ".join(f"{1000 * seconds:.2f} ms for {rows}" for rows, seconds in self.block.items())
        return f"a block takes {blocks} of {self.workload.shape}; {self.bus / 1e9:.1f} GB/s come to the device"

    def bytes(self, rows: int, blocks: int) -> int:
        """Return the bytes that so many rows take beside the weights on a device that so many blocks are used on."""
        beside = _line({r: float(c.bytes) for r, c in self.beside.items()})(rows)
        return int(max(beside + blocks * self.kept * rows, self.decoding.bytes))


def benchmark_block(
    folder: Path,
    pipeline: str,
    workload: Workload,
    device: torch.device,
    dtype: torch.dtype,
    *,
    scheme: QuantizationScheme | None,
    options: OptimizationOptions,
) -> BlockBenchmark:
    """Try a checkpoint's sizes on a device.

    Args:
        folder: the checkpoint's: its settings are read, its weights aren't.
        pipeline: the name of the class that the checkpoint is for.
        scheme: what the weights of the transformer's blocks are kept in.

    Raises:
        torch.OutOfMemoryError: if not even one block and one row fit.
    """
    sample = _sample(folder, pipeline, device, dtype, scheme)
    predictor = open_predictor(sample, options)
    costs: dict[int, tuple[Cost, Cost]] = {}
    predictor.repeat(MORE)
    warm_up(device, partial(measure_step, sample, predictor, workload, TOKENS, ROWS[0]))
    for rows in ROWS:
        try:
            costs[rows] = _costs(sample, predictor, workload, rows)
        except torch.OutOfMemoryError:
            if not costs:
                raise
            break
        if device.type != "cuda":
            break
    kept = _kept(sample, predictor, workload)
    measure_decoding(sample, workload.shape)
    decoding = measure_decoding(sample, workload.shape)
    block = {rows: max(more.seconds - few.seconds, 0.0) / (MORE - FEW) for rows, (few, more) in costs.items()}
    found = BlockBenchmark(
        workload,
        block=block,
        beside={
            rows: Cost(more.bytes - MORE * kept * rows, max(few.seconds - FEW * block[rows], 0.0))
            for rows, (few, more) in costs.items()
        },
        decoding=decoding,
        bus=bus_rate(device),
        kept=kept,
    )
    del sample, predictor
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _sample(
    folder: Path, pipeline: str, device: torch.device, dtype: torch.dtype, scheme: QuantizationScheme | None
) -> Components:
    """A model with one block, and as much else as drawing takes, with random weights."""
    architecture = architecture_of(pipeline)
    with loading(), device:
        config = architecture.transformer.load_config(folder / "transformer")
        transformer = architecture.transformer.from_config(config, num_layers=1).to(device, dtype)
        vae = architecture.vae.from_config(architecture.vae.load_config(folder / "vae")).to(device, dtype)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    for part in (transformer, vae):
        part.eval().requires_grad_(False)
    if scheme is not None:
        compress(transformer, scheme, device, device)
    nothing: Any = None  # of what reads prompts
    return Components(
        tokenizer=nothing,
        text_encoder=nothing,
        transformer=transformer,
        vae=architecture.single_frame(vae),
        scheduler=scheduler,
        architecture=architecture,
        rules=rules_of(pipeline),
        device=device,
        dtype=dtype,
        placement=RESIDENT,
        scheme=scheme,
    )


def _kept(sample: Components, predictor: Predictor, workload: Workload) -> int:
    """Bytes that each block keeps of a row from step to step."""
    tokens = sum(tokens_of([token_size(sample, *size)]) for size in workload.condition_sizes)
    return predictor.kept_bytes(tokens, branches=2 if workload.shape.guidance > 1 else 1)


def _costs(sample: Components, predictor: Predictor, workload: Workload, rows: int) -> tuple[Cost, Cost]:
    """A step through `FEW` blocks and one through `MORE`: the fastest of several each, for what else the host does
    shows in some of them. They take turns, so that the GPU is as warm for the ones as for the others.
    """
    costs: dict[int, list[Cost]] = {FEW: [], MORE: []}
    for turn in range(1 + TIMES):
        for blocks, measured in costs.items():
            predictor.repeat(blocks)
            cost = measure_step(sample, predictor, workload, TOKENS, rows)
            if turn:  # the first of each finds its kernels and its memory
                measured.append(cost)
    few, more = (min(measured, key=lambda cost: cost.seconds) for measured in costs.values())
    return few, more


def _line(points: Mapping[int, float]) -> Callable[[int], float]:
    """The line through the first and the last point, and through the origin where there is only one."""
    (first, low), *_ = sorted(points.items())
    *_, (last, high) = sorted(points.items())
    slope = (high - low) / (last - first) if last > first else low / first
    return lambda rows: max(low + slope * (rows - first), 0.0)

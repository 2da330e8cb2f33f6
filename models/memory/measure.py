"""What drawing takes of a device: bytes beside the weights, and seconds, both measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from models.loading.components import Components
from models.requests import Shape, Workload
from models.sampling.denoise import denoise, draw_noise
from models.sampling.latents import decode, token_size
from models.transformer.predictor import EncodedPicture, Predictor, tokens_of

WARM = 2.0  # seconds; an H200 that had rested promised a picture in 10.2 s that then took 11.4
STEPS, LONG = 3, 1.0  # steps that are measured of a batch, until they took so many seconds


@dataclass(frozen=True)
class Cost:
    """What one step of a batch takes, or decoding a row."""

    bytes: int  # at the peak, beside what was there before; 0 on the CPU
    seconds: float
    is_tight: bool = False  # whether memory was so short that torch had to give back what it keeps for later: slow


def warm_up(device: torch.device, work: Callable[[], object]) -> None:
    """Have a GPU work for a while before anything is timed: after a rest it is faster than it can be for long."""
    began = time.perf_counter()
    work()
    while device.type == "cuda" and time.perf_counter() - began < WARM:
        work()


@torch.inference_mode()
def measure_step(components: Components, predictor: Predictor, workload: Workload, tokens: int, rows: int) -> Cost:
    """Denoise so many rows of noise, with prompts of `tokens` tokens of noise, for one step.

    Where steps are unlike one another, as many are made as the predictor takes turns, and their mean is returned. No
    input is zeros, which a GPU multiplies faster than numbers: they take less power, and it keeps a higher clock.

    Raises:
        torch.OutOfMemoryError: if they don't fit.
    """
    shape, width = workload.shape, components.transformer.config.joint_attention_dim
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(tokens, width, generator=generator).to(components.dtype)
    texts = [[text] * (2 if shape.guidance > 1 else 1)] * rows
    noise = draw_noise(components, shape, [0] * rows)
    pictures = None
    if workload.condition_sizes:
        pictures = [_noisy_pictures(components, workload, noise, generator) for _ in range(rows)]
    control = noise if components.controlnet else None
    steps = min(predictor.period, shape.steps)
    with _Watch(components.device) as watch:
        denoise(components, predictor, shape, noise, texts, pictures, control, steps=steps)
    return replace(watch.cost, seconds=watch.cost.seconds / steps)


def measure_steps(components: Components, predictor: Predictor, workload: Workload, tokens: int, rows: int) -> Cost:
    """Return the fastest of a few steps, or the only one where it is long: what else the host does shows in short ones.

    Raises:
        torch.OutOfMemoryError: if the rows don't fit.
    """
    costs: list[Cost] = []
    while len(costs) < STEPS and sum(cost.seconds for cost in costs) < LONG:
        costs.append(measure_step(components, predictor, workload, tokens, rows))
    fastest = min(costs, key=lambda cost: cost.seconds)
    return Cost(max(cost.bytes for cost in costs), fastest.seconds, all(cost.is_tight for cost in costs))


@torch.inference_mode()
def measure_decoding(components: Components, shape: Shape) -> Cost:
    """Decode one row of noise.

    Raises:
        torch.OutOfMemoryError: if it doesn't fit.
    """
    noise = draw_noise(components, shape, [0])
    with _Watch(components.device) as watch:
        decode(components, shape, noise)
    return watch.cost


def _noisy_pictures(
    components: Components, workload: Workload, like: torch.Tensor, generator: torch.Generator
) -> list[EncodedPicture]:
    """Condition pictures of a row, of noise."""
    sizes = [token_size(components, width, height) for width, height in workload.condition_sizes]
    drawn = [torch.randn(tokens_of([size]), like.shape[2], generator=generator) for size in sizes]
    return [EncodedPicture(latents.to(like), size) for latents, size in zip(drawn, sizes, strict=True)]


class _Watch:
    """Measures a block."""

    cost: Cost

    def __init__(self, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"

    def __enter__(self) -> _Watch:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            self.retries = self._retries()
        self.began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        taken, is_tight = 0, False
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            taken = torch.cuda.max_memory_allocated(self.device) - self.before
            is_tight = self._retries() > self.retries
        self.cost = Cost(taken, time.perf_counter() - self.began, is_tight)

    def _retries(self) -> int:
        return int(torch.cuda.memory_stats(self.device).get("num_alloc_retries", 0))

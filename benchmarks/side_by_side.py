"""Stock and packshot on the same work, one after the other in one run: how both are timed, and the table they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.full_size import sampling_gpu, synchronized
from benchmarks.results import tell
from models.units import GIB

TIMED_STEPS = (2, 5)
FEWEST_STEPS = 2  # of a warm-up


@dataclass(frozen=True)
class Workload:
    """Rows that are made together."""

    size: int  # pixels, square
    rows: int
    mixed: bool = False  # whether the prompts are of different lengths
    guidance: float = 4.0
    steps: int = 50
    layers: int = 0  # that pictures are taken apart into
    pictures: int = 0  # that each row is edited from
    whole: bool = False  # whether whole pictures are timed

    def __str__(self) -> str:
        prompts = "mixed" if self.mixed else "equal"
        extra = f"{self.layers} layers" if self.layers else ("no CFG" if self.guidance <= 1 else "")
        extra += f"+{self.pictures}" if self.pictures else ""
        return f"{self.size:5}² {self.rows:4} {prompts:7} {self.steps:5} {extra:8}"


@dataclass(frozen=True)
class Result:
    """What one system took for one workload."""

    system: str
    workload: Workload
    batches: list[int]  # rows in each batch
    seconds_per_picture: float
    seconds_per_step_and_picture: float | None  # None where whole pictures were timed
    computed: bool  # whether seconds_per_picture is computed from seconds a step
    tflops: float | None  # of the steps; None where whole pictures were timed
    busy: float | None  # share of time in which the GPU ran anything
    peak_gib: float | None  # weights included; None on the CPU
    skipped: float | None  # share of steps that the cache skipped
    failures: int
    difference: int | None  # largest difference from stock's pictures, in levels of 255

    def __str__(self) -> str:
        def shown(value: float | None, width: int, form: str) -> str:
            return " " * width if value is None else f"{value:{width}{form}}"

        return (
            f"{self.system:21} {self.workload} {'+'.join(map(str, self.batches)):>8} "
            f"{shown(self.seconds_per_step_and_picture, 8, '.4f')} {self.seconds_per_picture:9.3f} "
            f"{shown(self.tflops, 8, '.0f')} {shown(self.busy, 5, '.0%')} {shown(self.peak_gib, 6, '.1f')} "
            f"{shown(self.skipped, 6, '.0%')} {shown(self.difference, 5, 'd')} {self.failures:6}"
        )


HEADER = (
    "system                  size rows prompts steps           batches   s/step s/picture  TFLOP/s  busy   peak "
    "skipped diff failed"
)

Draw = Callable[[int], tuple[list[np.ndarray | None], list[int]]]
"""Makes the rows of a workload in so many steps → pixels, and rows in each batch."""


def measure(
    system: str,
    draw: Draw,
    workload: Workload,
    *,
    step_flop: float,
    counted: Callable[[], tuple[int, int]] | None = None,
    reference: Sequence[Any] = (),
    timed_steps: tuple[int, int] = TIMED_STEPS,
) -> tuple[Result, list[Any]]:
    """Time one workload: whole pictures, or two runs of few steps from which whole pictures are computed.

    Args:
        step_flop: floating-point operations of one step of the workload.
        counted: how many steps a cache was asked for and how many were computed, so far.
        reference: stock's pictures, to compare with.
        timed_steps: of the two runs.
    """
    draw(FEWEST_STEPS)  # kernels, caches, and packshot's own measurement of memory
    if not workload.whole:
        draw(timed_steps[-1])  # modulations, which are made once for each schedule
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step, before = None, counted() if counted else (0, 0)
    with sampling_gpu() as busy:
        if workload.whole:
            seconds, pictures, batches = _timed(draw, workload.steps)
        else:
            few, more = timed_steps
            short, _, _ = _timed(draw, few)
            long, pictures, batches = _timed(draw, more)
            step = (long - short) / (more - few)
            seconds = short + step * (workload.steps - few)
    asked, computed = (now - then for now, then in zip(counted() if counted else (0, 0), before, strict=True))
    differences = [
        int(np.abs(one.astype(int) - other).max())
        for one, other in zip(pictures, reference, strict=False)
        if one is not None and other is not None
    ]
    result = Result(
        system=system,
        workload=workload,
        batches=batches,
        seconds_per_picture=seconds / workload.rows,
        seconds_per_step_and_picture=step / workload.rows if step is not None else None,
        computed=step is not None,
        tflops=step_flop / step / 1e12 if step is not None else None,
        busy=busy[0] if busy else None,
        peak_gib=torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None,
        skipped=1 - computed / asked if asked else None,
        failures=sum(picture is None for picture in pictures),
        difference=max(differences, default=None),
    )
    print(result, flush=True)
    return result, pictures


def _timed(draw: Draw, steps: int) -> tuple[float, list[np.ndarray | None], list[int]]:
    started = synchronized()
    pictures, batches = draw(steps)
    return synchronized() - started, pictures, batches


def report(results: Sequence[Result], file: Path | None, *, on_cpu: bool) -> None:
    """Say how to read the table and what ran it, and write JSON."""
    if any(result.computed for result in results):
        print("s/picture is computed from the seconds a step and the rest, both measured, but where s/step is empty.")
    tell(file, on_cpu=on_cpu, results=list(map(asdict, results)))

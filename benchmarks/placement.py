"""The same model in less and less of a GPU's memory: speed beside everything resident, and memory as it was predicted.

    python -m benchmarks.placement --out out/placement.json   # full size, random weights, one GPU with 80 GiB or more
    python -m benchmarks.placement --only 8 24                # some caps alone, in GiB
    python -m benchmarks.placement --layered                  # Qwen-Image-Layered at 24 GiB instead
    python -m benchmarks.placement --balanced                 # 24 GiB of each of several GPUs instead
    python -m benchmarks.placement --tiny                     # does this script work? on the CPU

The process is capped by `torch.cuda.set_per_process_memory_fraction`. Checkpoints are opened as a job opens them, from
files that have the size of real ones and hold nothing; then their weights are filled with random numbers, the same
wherever they are, so that pictures can be compared bit for bit. In the end memory is taken away in the middle of a run.
"""

from __future__ import annotations

import argparse
import gc
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import decompose, generate
from benchmarks.checkpoints import write_checkpoint
from benchmarks.full_size import forward_flop
from benchmarks.results import tell
from benchmarks.side_by_side import HEADER, Draw, Result, Workload, measure
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import Checkpoint, find_checkpoint
from models.engines.decomposer import Decomposer
from models.engines.generator import Generator
from models.loading.placement import limit_memory
from models.memory.usage import Usage
from models.placement_names import WantedPlacement
from models.units import GIB

CAPS = (48, 24, 16, 8)  # GiB
LAYERED_CAPS = BALANCED_CAPS = (24,)
EVERYTHING = 65  # GiB in which everything is resident, but by so little that it is planned
COMPARED_STEPS = 2


@dataclass(frozen=True)
class Case:
    """A model in a part of a GPU's memory, and how it did for each workload."""

    cap_gib: float
    placement: str
    host_gib: float  # of anonymous memory at the peak, while it was loaded
    predicted_gib: list[float | None]  # for the rows of each workload's batches; None where nothing was predicted
    predicted_seconds: list[float | None]  # a picture, for pictures as the checkpoint has them by itself
    results: list[Result]
    usage: Usage | None  # as a run's summary tells it
    equal: bool  # whether pictures are those of everything resident, bit for bit


def fill(engine: Any) -> None:
    """Give every weight a random number that its place in its tensor decides."""
    assert isinstance(engine.predictor, Varlen)
    parts = engine.components
    generator = torch.Generator().manual_seed(0)
    numbers = torch.empty(1 << 22).normal_(0, 1, generator=generator)
    some: dict[tuple[torch.device, torch.dtype, bool], torch.Tensor] = {}

    def fill_one(tensor: torch.Tensor) -> None:
        key = tensor.device, tensor.dtype, tensor.ndim > 1
        if key not in some:
            some[key] = (numbers * (0.02 if tensor.ndim > 1 else 0.5)).to(tensor.device, tensor.dtype)
        flat, few = tensor.view(-1), some[key]
        whole = len(flat) - len(flat) % len(few)
        flat[:whole].view(-1, len(few)).copy_(few)
        flat[whole:].copy_(few[: len(flat) - whole])

    for module in (parts.text_encoder, parts.transformer):  # the VAE's are random in its file
        for parameter in module.parameters():
            fill_one(parameter.data)
    for stream in (engine.predictor.blocks.stream, parts.text_layers):
        for tensor in stream.every() if stream else ():
            fill_one(tensor)


@contextmanager
def watching_host() -> Iterator[list[float]]:
    """Yields a list that holds, at the end, the most anonymous memory that this process had, in GiB."""
    most, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
            most[0] = max(most[0], int(lines["RssAnon"].split()[0]) * 1024 / GIB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Work:
    """What an engine does under every cap."""

    engine: Any  # the class
    draws: Callable[[Any, Workload], Draw]
    step_flop: Callable[[Any, Workload], float]  # floating-point operations of one step of a workload
    shrinks: bool = False  # whether memory is taken away in the middle of a run, in the end


class Caps:
    """One checkpoint under one cap after another."""

    def __init__(self, checkpoint: Checkpoint, workloads: list[Workload], work: Work, *, tiny: bool) -> None:
        self.checkpoint, self.workloads, self.work, self.tiny = checkpoint, workloads, work, tiny
        self.cases: list[Case] = []
        self.reference: list[Any] = []

    def open(self, cap: float, placement: WantedPlacement) -> tuple[Any, float]:
        """The engine, and the most host memory that opening it took, in GiB."""
        gpu_memory = int(cap * GIB)
        began = time.perf_counter()
        with watching_host() as host:
            engine = self.work.engine.load(
                self.checkpoint, device="cpu" if self.tiny else "cuda", gpu_memory=gpu_memory, placement=placement
            )
        opened = time.perf_counter()
        fill(engine)
        print(f"  opened in {opened - began:.1f} s, filled in {time.perf_counter() - opened:.1f} s", flush=True)
        return engine, host[0]

    def run(self, cap: float, placement: WantedPlacement = "auto") -> None:
        """One case."""
        engine, host = self.open(cap, placement)
        name = f"{cap:g} GiB"
        whole = torch.linspace(1, 0, self.workloads[0].steps, device=engine.device, dtype=engine.components.dtype)
        with torch.inference_mode():  # the modulations of a whole run take room that those of few steps don't
            engine.predictor.modulations(whole).at(0, whole.device)
        results = []
        for workload in self.workloads:
            flop = self.work.step_flop(engine, workload)
            results.append(measure(name, self.work.draws(engine, workload), workload, step_flop=flop)[0])
        # A batch of one: other batches round otherwise.
        drawn, _ = self.work.draws(engine, replace(self.workloads[0], rows=1))(COMPARED_STEPS)
        if not self.cases:
            assert engine.placement.kind == "resident"
            self.reference = drawn
        equal = all(
            one is not None and np.array_equal(one, other) for one, other in zip(drawn, self.reference, strict=True)
        )
        plan = engine.plan
        forecasts = [
            plan.forecast(engine.placement, max(result.batches))
            if plan
            and (result.workload.size, result.workload.layers)
            == (plan.benchmark.workload.shape.width, plan.benchmark.workload.shape.layers)
            else None
            for result in results
        ]
        case = Case(
            cap,
            str(engine.placement),
            host,
            [forecast and forecast.bytes / GIB for forecast in forecasts],
            [forecast and forecast.seconds for forecast in forecasts],
            results,
            engine.usage,
            equal,
        )
        self.cases.append(case)
        print(f"  {case.placement}; host {host:.1f} GiB; pictures {'equal' if equal else 'differ'}", flush=True)
        if plan:
            print(f"  {plan.benchmark.format()}", flush=True)
        if case.usage and case.usage.predicted_bytes and case.usage.peak_bytes:
            most, peak = case.usage.predicted_bytes / GIB, case.usage.peak_bytes / GIB
            print(f"  its summary: {most:.2f} GiB predicted of the shapes drawn, {peak:.2f} measured", flush=True)
        if self.work.shrinks and cap == min(CAPS) and not self.tiny:
            self.shrink(engine)
        del engine
        forget()

    def shrink(self, engine: Any) -> None:
        """Take memory away between two batches: those that don't fit any more are halved, and no row is lost."""
        workload = replace(self.workloads[0], rows=2 * max(self.cases[-1].results[0].batches))
        requests = generate.requests_of(workload, COMPARED_STEPS)
        batches = engine.render(requests)
        made = [next(batches)]
        before = torch.cuda.max_memory_allocated()
        limit_memory(engine.device, torch.cuda.memory_allocated() + (before - torch.cuda.memory_allocated()) // 3)
        made += batches
        drawn = sum(picture.pixels is not None for batch in made for picture in batch)
        print(
            f"  memory was taken away after the first batch: {drawn} of {len(requests)} rows were drawn, "
            f"in batches of {'+'.join(str(len(batch)) for batch in made)}",
            flush=True,
        )


def step_flop(engine: Any, workload: Workload) -> float:
    """Floating-point operations of one step of a workload."""
    transformer = engine.components.transformer
    if not workload.layers:
        return generate.step_flop(transformer, workload)
    tokens = (workload.layers + 2) * workload.size**2 // 256
    return workload.rows * sum(forward_flop(transformer, tokens, len(text) + 5) for text in (decompose.CAPTION, " "))


def forget() -> None:
    """Give everything back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0)


def show(cases: list[Case]) -> None:
    """Everything beside the first and the last case, which are everything resident."""
    heads = ("of resident", "s/picture", "predicted", "peak GiB", "predicted")
    print(f"\n{'':21}", *(f"{head:>11}" for head in heads), " placement")
    for case in cases:
        name = f"{case.cap_gib:g} GiB"
        for number, result in enumerate(case.results):
            base = (cases[0].results[number].seconds_per_picture + cases[-1].results[number].seconds_per_picture) / 2
            seconds, memory = case.predicted_seconds[number], case.predicted_gib[number]
            print(
                f"{name:21} {result.seconds_per_picture / base:11.3f} {result.seconds_per_picture:11.3f} "
                f"{'' if seconds is None else f'{seconds:.3f}':>11} {result.peak_gib or 0:11.2f} "
                f"{'' if memory is None else f'{memory:.2f}':>11}  {case.placement}, {max(result.batches)} rows"
            )


def main() -> None:
    """Run, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--layered", action="store_true", help="Qwen-Image-Layered, at 640² and 1024² in four layers")
    parser.add_argument("--balanced", action="store_true", help="blocks balanced over all GPUs that there are")
    parser.add_argument("--only", nargs="+", type=float, help="some caps alone, in GiB")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()

    logging.getLogger("models.engines.attempts").setLevel(logging.ERROR)  # some batches are to fail
    layered, tiny = arguments.layered, arguments.tiny
    if layered:
        workloads = [Workload(640, 2, layers=4), Workload(1024, 1, layers=4)]
        work = Work(Decomposer, decompose.packshot_draws, step_flop)
    else:
        workloads = [Workload(1024, 4, mixed=True)]
        work = Work(Generator, generate.packshot_draws, step_flop, shrinks=True)
    if tiny:
        workloads = [replace(workload, size=64, rows=2) for workload in workloads]
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="packshot-hollow-") as folder:
        write_checkpoint(Path(folder), tiny=tiny, layered=layered, hollow=True)
        checkpoint = find_checkpoint(folder, pipeline=work.engine.pipeline, hashed=False)
        caps = Caps(checkpoint, workloads, work, tiny=tiny)
        caps.run(EVERYTHING, "resident" if tiny else "auto")
        placement: WantedPlacement = "streamed" if tiny else "balanced" if arguments.balanced else "auto"
        for cap in arguments.only or (LAYERED_CAPS if layered else BALANCED_CAPS if arguments.balanced else CAPS):
            caps.run(cap, placement)
        caps.run(EVERYTHING, "resident" if tiny else "auto")  # again: a warm card is slower than a cool one
    show(caps.cases)
    tell(arguments.out, on_cpu=tiny, cases=list(map(asdict, caps.cases)))


if __name__ == "__main__":
    main()

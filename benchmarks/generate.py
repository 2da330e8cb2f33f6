"""The bulk engine beside stock diffusers at full size: seconds a picture, TFLOP/s, memory; every lever, in one run.

    python -m benchmarks.generate --out out/generate.json     # full size, random weights, one GPU with 100 GiB or more
    python -m benchmarks.generate --only float8 512           # some systems and sizes alone
    python -m benchmarks.generate --miniature                 # the miniature, whole pictures, on the CPU
    python -m benchmarks.generate --tiny                      # does this script work? on the CPU

Stock gets a workload in one call, packshot as requests that it batches by itself. Whole pictures of 50 steps would take
an hour, so two runs of few steps are timed and the rest is computed: marked as such. Where steps are skipped, and where
there are eight, whole pictures are timed. Pictures of random weights look like noise; `benchmarks.drift` says what
the levers that approximate do to pictures that mean something.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import QwenImagePipeline

from benchmarks.full_size import (
    GIB,
    components_of,
    device_name,
    forward_flop,
    new_pipeline,
    sampling_gpu,
    synchronized,
)
from models.checkpoint import find_checkpoint, sampling_defaults
from models.components import quiet
from models.generator import Generator
from models.levers import Levers
from models.packed import Packed
from models.sampling import PictureRequest, Shape

EQUAL = "A red enamel mug with a white rim, studio photo on plain white"
LENGTHS = (62, 24, 40, 51, 33, 62, 18, 47)  # characters kept of EQUAL where prompts are of mixed lengths
TIMED_STEPS = (2, 5)
SKIPPED = 0.5  # share of steps that the step cache is set to skip


@dataclass(frozen=True)
class Workload:
    """Rows that are rendered together."""

    size: int  # pixels, square
    rows: int
    mixed: bool = False  # whether the prompts are of different lengths
    guidance: float = 4.0
    steps: int = 50
    whole: bool = False  # whether whole pictures are timed

    def requests(self, steps: int) -> list[PictureRequest]:
        """Its rows, in so many steps."""
        shape = Shape(self.size, self.size, steps, self.guidance)
        cuts = [LENGTHS[row % len(LENGTHS)] if self.mixed else len(EQUAL) for row in range(self.rows)]
        return [PictureRequest(EQUAL[:cut], " ", seed, shape) for seed, cut in enumerate(cuts)]


@dataclass(frozen=True)
class Result:
    """What one system took for one workload."""

    system: str
    workload: Workload
    batches: list[int]  # rows in each batch
    seconds_per_picture: float
    seconds_per_step_and_picture: float | None  # None where whole pictures were timed
    computed: bool  # whether seconds_per_picture is computed from seconds a step
    tflops: float | None  # of the steps; None where steps were skipped
    busy: float | None  # share of time in which the GPU ran anything
    peak_gib: float | None  # weights included; None on the CPU
    skipped: float | None  # share of steps that the cache skipped
    failures: int
    difference: int | None  # largest difference from stock's pictures, in levels of 255


Draw = Callable[[Sequence[PictureRequest]], tuple[list[np.ndarray | None], list[int]]]


def stock_draws(pipeline: QwenImagePipeline) -> Draw:
    """Stock: the whole workload in one call, as its documentation shows."""

    def draw(requests: Sequence[PictureRequest]) -> tuple[list[np.ndarray | None], list[int]]:
        shape = requests[0].shape
        pictures = pipeline(
            prompt=[request.prompt for request in requests],
            negative_prompt=[request.negative_prompt for request in requests] if shape.guidance > 1 else None,
            true_cfg_scale=shape.guidance,
            width=shape.width,
            height=shape.height,
            num_inference_steps=shape.steps,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        ).images
        return [np.asarray(picture) for picture in pictures], [len(requests)]

    return draw


def packshot_draws(generator: Generator) -> Draw:
    """packshot: `Generator.render`, which chooses its own batches."""

    def draw(requests: Sequence[PictureRequest]) -> tuple[list[np.ndarray | None], list[int]]:
        batches = list(generator.render(requests))
        pictures = sorted((picture for batch in batches for picture in batch), key=lambda picture: picture.index)
        return [picture.pixels for picture in pictures], [len(batch) for batch in batches]

    return draw


def measure(
    name: str, draw: Draw, workload: Workload, transformer: Any, reference: Sequence[Any] = ()
) -> tuple[Result, list[Any]]:
    """Time one workload: whole pictures, or two runs of few steps from which whole pictures are computed."""
    draw(workload.requests(2))  # kernels, caches, and packshot's own measurement of memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = tflops = None
    with sampling_gpu() as busy:
        if workload.whole:
            seconds, pictures, batches = _timed(draw, workload.requests(workload.steps))
        else:
            few, more = TIMED_STEPS
            short, _, _ = _timed(draw, workload.requests(few))
            long, pictures, batches = _timed(draw, workload.requests(more))
            step = (long - short) / (more - few)
            seconds = short + step * (workload.steps - few)
    if step is not None:
        tokens = [len(request.prompt) + 5 for request in workload.requests(2)]
        tokens += [len(" ") + 5] * workload.rows if workload.guidance > 1 else []
        image_tokens = workload.size**2 // 256
        tflops = sum(forward_flop(transformer, image_tokens, text) for text in tokens) / step / 1e12
    differences = [
        int(np.abs(one.astype(int) - other).max())
        for one, other in zip(pictures, reference, strict=False)
        if one is not None and other is not None
    ]
    result = Result(
        system=name,
        workload=workload,
        batches=batches,
        seconds_per_picture=seconds / workload.rows,
        seconds_per_step_and_picture=step / workload.rows if step is not None else None,
        computed=step is not None,
        tflops=tflops,
        busy=busy[0] if busy else None,
        peak_gib=torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None,
        skipped=None,
        failures=sum(picture is None for picture in pictures),
        difference=max(differences, default=None),
    )
    return result, pictures


def _timed(draw: Draw, requests: Sequence[PictureRequest]) -> tuple[float, list[np.ndarray | None], list[int]]:
    started = synchronized()
    pictures, batches = draw(requests)  # ends with pixels in host memory, so the device is done
    return synchronized() - started, pictures, batches


HEADER = (
    "system                 size rows prompts steps   batches   s/step s/picture  TFLOP/s  busy    peak"
    "  skip diff failed"
)


def line(result: Result) -> str:
    """One row of the table."""
    work = result.workload

    def shown(value: float | None, form: str) -> str:
        width = int(form.split(".")[0].rstrip("d%"))
        return " " * width if value is None else f"{value:{form}}"

    return (
        f"{result.system:20} {work.size:5}² {work.rows:4} {'mixed' if work.mixed else 'equal':6} "
        f"{work.steps:3}{'' if work.guidance > 1 else ' no CFG':7} {'+'.join(map(str, result.batches)):>5} "
        f"{shown(result.seconds_per_step_and_picture, '8.4f')} {result.seconds_per_picture:9.3f} "
        f"{shown(result.tflops, '8.0f')} {shown(result.busy, '5.0%')} {shown(result.peak_gib, '7.1f')} "
        f"{shown(result.skipped, '5.0%')} {shown(result.difference, '4d')} {result.failures:6}"
    )


def compare(pipeline: QwenImagePipeline, workloads: Sequence[Workload], only: set[str]) -> list[Result]:
    """Run stock and packshot with every lever, one after the other: float8 gives up the exact weights."""
    results: list[Result] = []
    same_noise = pipeline.dtype == torch.float32  # stock draws its noise in the model's precision
    references: dict[Workload, list[Any]] = {}

    def run(name: str, draw: Draw, some: Sequence[Workload], generator: Generator | None = None) -> None:
        for workload in some:
            predictor = generator.predictor if generator else None
            asked, computed = (predictor.asked, predictor.computed) if isinstance(predictor, Packed) else (0, 0)
            result, pictures = measure(name, draw, workload, pipeline.transformer, references.get(workload, ()))
            if isinstance(predictor, Packed) and predictor.asked > asked:
                share = 1 - (predictor.computed - computed) / (predictor.asked - asked)
                result = Result(**{**result.__dict__, "skipped": share})
            if name == "stock" and same_noise:
                references[workload] = pictures
            print(line(result), flush=True)
            results.append(result)
            gc.collect()

    sizes = {int(word) for word in only if word.isdigit()}
    wanted = {word for word in only if not word.isdigit()} or {"stock", "exact", "float8", "cache", "lightning"}
    workloads = [workload for workload in workloads if not sizes or workload.size in sizes]
    guided = [workload for workload in workloads if workload.guidance > 1]
    alone = [workload for workload in guided if workload.rows == max(work.rows for work in guided)]
    eight = [workload for workload in workloads if workload.guidance <= 1]
    components = components_of(pipeline)
    if "stock" in wanted:
        run("stock", stock_draws(pipeline), guided)
    if "exact" in wanted:
        run("packshot", packshot_draws(Generator(components)), guided)
    if wanted & {"float8", "cache", "lightning"}:
        generator = Generator(components, levers=Levers(float8=True))
        if "float8" in wanted:
            run("packshot float8", packshot_draws(generator), guided)
        if "lightning" in wanted:
            run("packshot float8", packshot_draws(generator), eight)
        if "cache" in wanted and isinstance(generator.predictor, Packed):
            generator.predictor.step_cache = threshold_of(generator, SKIPPED)
            whole = [Workload(**{**work.__dict__, "whole": True, "rows": min(work.rows, 4)}) for work in alone[:1]]
            run("packshot float8+cache", packshot_draws(generator), whole, generator)
    return results


def threshold_of(generator: Generator, skipped: float) -> float:
    """The threshold at which the step cache skips about so many of a small picture's 50 steps: weights are random."""
    predictor = generator.predictor
    assert isinstance(predictor, Packed)
    low, high = 0.0, 1.0
    side = 16 * generator.size_multiple
    requests = [PictureRequest(EQUAL, " ", 0, Shape(side, side, 50, 4.0))]
    for _ in range(7):
        predictor.step_cache = (low + high) / 2
        asked, computed = predictor.asked, predictor.computed
        list(generator.render(requests))
        share = 1 - (predictor.computed - computed) / (predictor.asked - asked)
        low, high = ((low + high) / 2, high) if share < skipped else (low, (low + high) / 2)
    return high


def full_size(arguments: argparse.Namespace) -> list[Result]:
    """Random weights at the real size on one GPU, or at toy size on the CPU."""
    workloads = (
        [Workload(64, 1), Workload(64, 8, mixed=True), Workload(64, 8, guidance=1.0, steps=8, whole=True)]
        if arguments.tiny
        else [
            Workload(1024, 1),
            Workload(1024, 8, mixed=True),
            Workload(1024, 8, guidance=1.0, steps=8, whole=True),
            Workload(512, 32, mixed=True),
        ]
    )
    return compare(new_pipeline(tiny=arguments.tiny), workloads, set(arguments.only))


def miniature(arguments: argparse.Namespace) -> list[Result]:
    """The miniature on the CPU, whole pictures; here the pictures mean something, so they are compared."""
    checkpoint = find_checkpoint("miniature")
    defaults = sampling_defaults(checkpoint)
    with quiet():
        pipeline = QwenImagePipeline.from_pretrained(checkpoint.folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    workloads = [
        Workload(defaults.width, rows, mixed, defaults.guidance, defaults.steps, whole=True)
        for rows, mixed in ((1, False), (8, True))
    ]
    return compare(pipeline, workloads, set(arguments.only or ("stock", "exact")))


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--miniature", action="store_true", help="the miniature on the CPU")
    kind.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--only", nargs="+", default=[], help="stock, exact, float8, cache, lightning; 512, 1024")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    on_cpu = arguments.miniature or arguments.tiny

    print(HEADER)
    results = miniature(arguments) if arguments.miniature else full_size(arguments)
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    print(device_name(tiny=on_cpu), *(f"{name} {version}" for name, version in versions.items()), sep=", ")
    if any(result.computed for result in results):
        print("s/picture is computed from the seconds a step and the rest, both measured, but where s/step is empty.")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        report = {"device": device_name(tiny=on_cpu), "versions": versions, "results": list(map(asdict, results))}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Pictures from prompts, packshot beside stock diffusers at full size: every option, in one run.

    python -m benchmarks.generate --out out/generate.json     # full size, random weights, one GPU with 100 GiB or more
    python -m benchmarks.generate --only float8 512           # some systems and sizes alone
    python -m benchmarks.generate --miniature                 # the miniature, whole pictures, on the CPU
    python -m benchmarks.generate --tiny                      # does this script work? on the CPU

Stock gets a workload in one call, packshot as requests that it batches by itself. Whole pictures of 50 steps would take
an hour, so two runs of few steps are timed and the rest is computed: marked as such. Where steps are skipped, and where
there are eight, whole pictures are timed. What a step cache decides means nothing where weights are random, so rows
take turns: 60 % of the steps are skipped, as many as of the miniature's at the recommended threshold.
`benchmarks.drift` says what the options that approximate do to pictures that mean something.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import QwenImagePipeline

from benchmarks.full_size import components_of, forward_flop, new_pipeline
from benchmarks.side_by_side import HEADER, Draw, Result, Workload, measure, report
from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import find_checkpoint, sampling_defaults
from models.engines.generator import Generator
from models.files.quantization_schemes import QuantizationScheme
from models.loading.component import loading
from models.loading.optimization_options import OptimizationOptions
from models.requests import PictureRequest, Shape
from models.transformer.quantized import compress
from models.transformer.step_cache import StepCache

EQUAL = "A red enamel mug with a white rim, studio photo on plain white"
LENGTHS = (62, 24, 40, 51, 33, 62, 18, 47)  # characters kept of EQUAL where prompts are of mixed lengths
SCHEMES: tuple[QuantizationScheme, ...] = ("int8", "nf4")  # whose weights are kept compressed
SYSTEMS = ("stock", "unfused", "flash", "exact", "float8", "lightning", "cache", *SCHEMES)
STOCK_ROWS = 32  # that it decodes at once, at 1 GiB for each of 512²: more of them don't fit beside the model
THRESHOLD = 0.2  # of the step cache: the recommended one, which skips 60 % of the miniature's steps
COMPUTED_EVERY = 5  # steps, after the first quarter of them: so 60 % are skipped


def requests_of(workload: Workload, steps: int) -> list[PictureRequest]:
    """A workload's rows, in so many steps."""
    shape = Shape(workload.size, workload.size, steps, workload.guidance)
    cuts = [LENGTHS[row % len(LENGTHS)] if workload.mixed else len(EQUAL) for row in range(workload.rows)]
    return [PictureRequest(EQUAL[:cut], " ", seed, shape) for seed, cut in enumerate(cuts)]


def step_flop(transformer: Any, workload: Workload) -> float:
    """Floating-point operations of one step of a workload."""
    texts = [each.text for request in requests_of(workload, 2) for each in request.conditionings]
    return sum(forward_flop(transformer, workload.size**2 // 256, len(text) + 5) for text in texts)


def stock_draws(pipeline: QwenImagePipeline, workload: Workload) -> Draw:
    """Stock: the whole workload in one call, as its documentation shows."""

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        requests = requests_of(workload, steps)
        guided = workload.guidance > 1
        pictures = pipeline(
            prompt=[request.prompt for request in requests],
            negative_prompt=[request.negative_prompt for request in requests] if guided else None,
            true_cfg_scale=workload.guidance,
            width=workload.size,
            height=workload.size,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        ).images
        return [np.asarray(picture) for picture in pictures], [len(requests)]

    return draw


def packshot_draws(generator: Generator, workload: Workload) -> Draw:
    """packshot: `Generator.render`, which chooses its own batches."""

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        batches = list(generator.render(requests_of(workload, steps)))
        pictures = sorted((picture for batch in batches for picture in batch), key=lambda picture: picture.index)
        return [picture.pixels for picture in pictures], [len(batch) for batch in batches]

    return draw


def compare(pipeline: QwenImagePipeline, workloads: Sequence[Workload], systems: set[str]) -> list[Result]:
    """Run stock and packshot with every option, one after the other.

    float8 and compressed weights come last, for they give up the others; of them one at a time.
    """
    results: list[Result] = []
    references: dict[Workload, list[Any]] = {}
    same_noise = pipeline.dtype == torch.float32  # stock draws its noise in the model's precision
    guided = [workload for workload in workloads if workload.guidance > 1]
    largest = [workload for workload in guided if workload.mixed and workload.size == max(one.size for one in guided)]
    components = components_of(pipeline)

    def run(system: str, generator: Generator | None, some: Sequence[Workload]) -> None:
        for workload in some:
            draw = packshot_draws(generator, workload) if generator else stock_draws(pipeline, workload)
            result, pictures = measure(
                system,
                draw,
                workload,
                step_flop=step_flop(pipeline.transformer, workload),
                counted=(lambda: counts(generator)) if generator and generator.options.fused else None,
                reference=references.get(workload, ()),
            )
            results.append(result)
            if generator is None and same_noise:
                references[workload] = pictures
            gc.collect()

    if "stock" in systems:
        run("stock", None, [workload for workload in guided if workload.rows <= STOCK_ROWS])
    if "unfused" in systems:
        run("packshot unfused", Generator(components, options=OptimizationOptions(fused=False)), largest)
    if "flash" in systems:
        run("packshot flash", Generator(components, options=OptimizationOptions(attention="flash")), largest)
    if "exact" in systems:
        run("packshot", Generator(components), guided)
    for scheme in SCHEMES:
        if scheme in systems:
            for model in (pipeline.text_encoder, pipeline.transformer):
                compress(model, scheme, components.device, components.device)
            run(f"packshot {scheme}", Generator(replace(components, scheme=scheme)), guided)
    if systems & {"float8", "lightning", "cache"}:
        generator = Generator(components, options=OptimizationOptions(float8=True))
        if "float8" in systems:
            run("packshot float8", generator, guided)
        if "lightning" in systems:
            run("packshot float8", generator, [workload for workload in workloads if workload.guidance <= 1])
        if "cache" in systems:
            assert isinstance(generator.predictor, Varlen)
            generator.predictor.step_cache = THRESHOLD
            with taking_turns():
                run("packshot float8+cache", generator, [replace(workload, rows=5, whole=True) for workload in largest])
    return results


def counts(generator: Generator) -> tuple[int, int]:
    """The steps that a generator's cache was asked for, and that were computed."""
    assert isinstance(generator.predictor, Varlen)
    return generator.predictor.asked, generator.predictor.computed


@contextmanager
def taking_turns() -> Iterator[None]:
    """Have every step cache compute each row at every fifth step once it may skip any, and another row at each step."""
    decide = StepCache.due

    def due(cache: StepCache, step: int, first: torch.Tensor) -> list[int]:
        decided = decide(cache, step, first)  # for what that takes
        if step < cache.early:
            return decided
        return [place for place, row in enumerate(cache.row_of) if (step + row) % COMPUTED_EVERY == 0]

    with patch.object(StepCache, "due", due):
        yield


def full_size(*, tiny: bool, systems: set[str], sizes: set[int]) -> list[Result]:
    """Random weights at the real size on one GPU, or at toy size on the CPU."""
    workloads = [
        Workload(1024, 1),
        Workload(1024, 8, mixed=True),
        Workload(512, 32, mixed=True),
        Workload(512, 64, mixed=True),
        Workload(1024, 8, guidance=1.0, steps=8, whole=True),
    ]
    if tiny:
        workloads = [replace(workload, size=workload.size // 16, rows=min(workload.rows, 8)) for workload in workloads]
    workloads = [work for work in workloads if not sizes or work.size in sizes]
    results = []
    for some in (systems - set(SCHEMES), *(systems & {scheme} for scheme in SCHEMES)):
        if some:
            results += compare(new_pipeline(tiny=tiny), workloads, some)
            gc.collect()
    return results


def miniature(systems: set[str]) -> list[Result]:
    """The miniature on the CPU, whole pictures; here the pictures mean something, so they are compared."""
    checkpoint = find_checkpoint("miniature")
    own = sampling_defaults(checkpoint)
    with loading():
        pipeline = QwenImagePipeline.from_pretrained(checkpoint.folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    one = Workload(own.width, 1, guidance=own.guidance, steps=own.steps, whole=True)
    return compare(pipeline, [one, replace(one, rows=8, mixed=True)], systems)


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--miniature", action="store_true", help="the miniature on the CPU")
    kind.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--only", nargs="+", default=[], help=f"{', '.join(SYSTEMS)}; 512, 1024")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    sizes = {int(word) for word in arguments.only if word.isdigit()}
    systems = {word for word in arguments.only if not word.isdigit()}

    print(HEADER)
    if arguments.miniature:
        results = miniature(systems or {"stock", "exact"})
    else:
        results = full_size(tiny=arguments.tiny, systems=systems or set(SYSTEMS), sizes=sizes)
    report(results, arguments.out, on_cpu=arguments.miniature or arguments.tiny)


if __name__ == "__main__":
    main()

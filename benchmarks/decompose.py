"""Layers of pictures, packshot beside stock diffusers at full size.

    python -m benchmarks.decompose --out out/decompose.json   # full size, random weights, one GPU
    python -m benchmarks.decompose --tiny                     # does this script work? on the CPU

As `benchmarks.generate`. Stock takes one picture at a time: it cuts a batch in the wrong places (diffusers 0.42.1).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImageLayeredPipeline
from PIL import Image

from benchmarks.full_size import components_of, forward_flop, new_pipeline
from benchmarks.side_by_side import HEADER, Draw, Result, Workload, measure, report
from models.engines.decomposer import Decomposer
from models.loading.optimization_options import OptimizationOptions
from models.requests import LayersRequest, layers_shape

CAPTION = "A red enamel mug on a wooden table, with a banner over it"
SYSTEMS = ("stock", "exact", "float8")


def source(size: int, seed: int) -> np.ndarray:
    """A picture of noise, opaque, uint8 [H, W, 4]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), np.uint8)
    pixels[..., 3] = 255
    return pixels


def stock_draws(pipeline: QwenImageLayeredPipeline, workload: Workload) -> Draw:
    """Stock: one picture after another."""

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        made: list[np.ndarray | None] = []
        for seed in range(workload.rows):
            layers = pipeline(
                image=Image.fromarray(source(workload.size, seed)),
                prompt=CAPTION,
                negative_prompt=" ",
                true_cfg_scale=workload.guidance,
                layers=workload.layers,
                resolution=workload.size,
                cfg_normalize=True,
                num_inference_steps=steps,
                generator=torch.Generator("cpu").manual_seed(seed),
            ).images[0]
            made.append(np.stack([np.asarray(layer) for layer in layers]))
        return made, [1] * workload.rows

    return draw


def packshot_draws(decomposer: Decomposer, workload: Workload) -> Draw:
    """packshot: `Decomposer.decompose`, which chooses its own batches."""

    def draw(steps: int) -> tuple[list[np.ndarray | None], list[int]]:
        shape = layers_shape(
            workload.size,
            workload.size,
            multiple=decomposer.size_multiple,
            resolution=workload.size,
            layers=workload.layers,
            steps=steps,
            guidance=workload.guidance,
            cfg_normalize=True,
        )
        requests = [
            LayersRequest(source(workload.size, seed), CAPTION, " ", seed, shape) for seed in range(workload.rows)
        ]
        batches = list(decomposer.decompose(requests))
        made = sorted((one for batch in batches for one in batch), key=lambda one: one.index)
        return [one.pixels for one in made], [len(batch) for batch in batches]

    return draw


def compare(pipeline: QwenImageLayeredPipeline, workloads: Sequence[Workload], systems: set[str]) -> list[Result]:
    """Run stock and packshot one after the other."""
    results: list[Result] = []
    components = components_of(pipeline)

    def run(system: str, draws: Any, engine: Any, some: Sequence[Workload]) -> None:
        for workload in some:
            tokens = (workload.layers + 2) * workload.size**2 // 256
            flop = sum(forward_flop(pipeline.transformer, tokens, len(text) + 5) for text in (CAPTION, " "))
            result, _ = measure(system, draws(engine, workload), workload, step_flop=flop * workload.rows)
            results.append(result)

    if "stock" in systems:
        run("stock", stock_draws, pipeline, [replace(workload, rows=1) for workload in workloads])
    if "exact" in systems:
        run("packshot", packshot_draws, Decomposer(components), workloads)
    if "float8" in systems:
        run(
            "packshot float8",
            packshot_draws,
            Decomposer(components, options=OptimizationOptions(float8=True)),
            workloads,
        )
    return results


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--only", nargs="+", default=SYSTEMS, choices=SYSTEMS, help="some systems alone")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()

    workloads = [Workload(640, 2, layers=1)] if arguments.tiny else [Workload(640, 3, layers=4)]
    print(HEADER)
    results = compare(new_pipeline(tiny=arguments.tiny, layered=True), workloads, set(arguments.only))
    report(results, arguments.out, on_cpu=arguments.tiny)


if __name__ == "__main__":
    main()

"""Stock `QwenImagePipeline` and packshot's `Generator`, side by side: seconds a picture, and peak memory.

    python -m benchmarks.generate --out out/generate.json               # full size, random weights, one GPU
    python -m benchmarks.generate --streamed --out out/streamed.json    # weights in host memory
    python -m benchmarks.generate --miniature --out out/miniature.json  # the miniature, on the CPU
    python -m benchmarks.generate --tiny                                # does this script work? on the CPU

Speed and memory don't depend on the values of weights, so the full size needs no checkpoint. At full size a run of few
and a run of more steps are timed and the difference gives the seconds a step; a picture of 50 steps is then computed,
not measured, and says so. Both systems share the transformer and the text encoder; both get the same prompts and seeds.
"""

import argparse
import copy
import gc
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.checkpoint import find_checkpoint, sampling_defaults
from models.components import Components, quiet
from models.generator import Generator
from models.miniature.architecture import new_scheduler
from models.placement import stream
from models.sampling import PictureRequest, Shape
from models.single_frame import single_frame

GIB = 2**30
EQUAL = "A red enamel mug with a white rim, studio photo on plain white"
LENGTHS = (62, 24, 40, 51, 33, 62, 18, 47)  # characters kept of EQUAL where prompts are of mixed lengths
TEMPLATE = "." * 34 + "{}....."  # 34 tokens to drop and five to keep, as Qwen-Image's own, at one token a byte

FULL = {
    "transformer": {},  # diffusers' defaults are Qwen-Image's sizes
    "vae": {},
    "text": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584},
}
TINY = {
    "transformer": {
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    "vae": {"base_dim": 8, "num_res_blocks": 1},
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    },
    "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32},
}


@dataclass(frozen=True)
class Workload:
    """Rows that are rendered together."""

    size: int  # pixels, square
    rows: int
    mixed: bool  # whether the prompts are of different lengths
    guidance: float = 4.0

    def requests(self, steps: int) -> list[PictureRequest]:
        """Its rows, in so many steps."""
        shape = Shape(self.size, self.size, steps, self.guidance)
        cuts = [LENGTHS[row % len(LENGTHS)] if self.mixed else len(EQUAL) for row in range(self.rows)]
        return [PictureRequest(EQUAL[:cut], " ", seed, shape) for seed, cut in enumerate(cuts)]


@dataclass(frozen=True)
class Result:
    """What one system took for one workload."""

    system: str
    size: int
    rows: int
    mixed: bool
    batches: list[int]  # rows in each batch
    steps: int
    seconds_per_picture: float
    seconds_per_step_and_picture: float | None  # None where whole pictures were timed
    computed: bool  # whether seconds_per_picture is computed from seconds a step
    peak_gib: float | None  # weights included; None on the CPU
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
    name: str, draw: Draw, workload: Workload, timed_steps: tuple[int, int] | None, steps: int, reference: list[Any]
) -> tuple[Result, list[Any]]:
    """Time one workload: whole pictures, or two runs of few steps from which whole pictures are computed."""
    draw(workload.requests(2))  # kernels, caches, and packshot's own measurement of memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = None
    if timed_steps:
        few, more = timed_steps
        short, _, _ = _timed(draw, workload.requests(few))
        long, pictures, batches = _timed(draw, workload.requests(more))
        step = (long - short) / (more - few)
        seconds = short + step * (steps - few)
    else:
        seconds, pictures, batches = _timed(draw, workload.requests(steps))
    peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None
    differences = [
        int(np.abs(one.astype(int) - other).max())
        for one, other in zip(pictures, reference, strict=False)
        if one is not None and other is not None
    ]
    result = Result(
        system=name,
        size=workload.size,
        rows=workload.rows,
        mixed=workload.mixed,
        batches=batches,
        steps=steps,
        seconds_per_picture=seconds / workload.rows,
        seconds_per_step_and_picture=step / workload.rows if step is not None else None,
        computed=step is not None,
        peak_gib=peak,
        failures=sum(picture is None for picture in pictures),
        difference=max(differences, default=None),
    )
    print(line(result), flush=True)
    return result, pictures


def _timed(draw: Draw, requests: Sequence[PictureRequest]) -> tuple[float, list[np.ndarray | None], list[int]]:
    started = time.perf_counter()
    pictures, batches = draw(requests)  # ends with pixels in host memory, so the device is done
    return time.perf_counter() - started, pictures, batches


def line(result: Result) -> str:
    """One row of the table."""
    prompts = "mixed" if result.mixed else "equal"
    step = f"{result.seconds_per_step_and_picture:8.4f}" if result.seconds_per_step_and_picture is not None else " " * 8
    peak = f"{result.peak_gib:7.1f}" if result.peak_gib is not None else " " * 7
    difference = f"{result.difference:5d}" if result.difference is not None else " " * 5
    batches = "+".join(map(str, result.batches))
    return (
        f"{result.system:18} {result.size:5}² {result.rows:4} {prompts:6} {batches:>9} {step} "
        f"{result.seconds_per_picture:9.3f} {peak} {difference} {result.failures:6}"
    )


HEADER = "system               size rows prompts  batches   s/step s/picture    peak  diff failed"


def build(sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> QwenImagePipeline:
    """A Qwen-Image with random weights, built on the device."""
    transformer = random_transformer(sizes["transformer"], device, dtype)
    tokenizer = byte_tokenizer()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            config = Qwen2_5_VLConfig(text_config=sizes["text"], vision_config=sizes["vision"])
            text_encoder = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    pipeline = QwenImagePipeline(
        scheduler=new_scheduler(),
        vae=AutoencoderKLQwenImage(**sizes["vae"]).to(device, dtype).eval().requires_grad_(False),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipeline.prompt_template_encode = TEMPLATE
    return pipeline


def random_transformer(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> QwenImageTransformer2DModel:
    """Built on meta and filled on the device: 38 GiB never pass through host memory."""
    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel(**config)
    rope = type(transformer.pos_embed)  # its tables are plain tensors, and would stay on meta
    transformer = transformer.to(dtype).to_empty(device=device)
    transformer.pos_embed = rope(theta=10000, axes_dim=list(transformer.config.axes_dims_rope), scale_rope=True)
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.normal_(0, 0.02)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return transformer.eval()


def byte_tokenizer() -> Qwen2Tokenizer:
    """One token a byte: no vocabulary to download, and a prompt's length is plain to see."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return Qwen2Tokenizer(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[])


def components_of(pipeline: QwenImagePipeline, device: torch.device, dtype: torch.dtype) -> Components:
    """The same weights, in packshot's hands; only the VAE is a copy."""
    return Components(
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder.model.language_model,
        transformer=pipeline.transformer,
        vae=single_frame(copy.deepcopy(pipeline.vae)),
        scheduler=pipeline.scheduler,
        template=pipeline.prompt_template_encode,
        template_tokens=pipeline.prompt_template_encode_start_idx,
        device=device,
        dtype=dtype,
        placement="resident",
        vae_scale=pipeline.vae_scale_factor,
    )


def compare(
    pipeline: QwenImagePipeline,
    generator: Generator,
    workloads: Sequence[Workload],
    timed_steps: tuple[int, int] | None,
    steps: int,
) -> list[Result]:
    """Run every workload on both systems, one after the other."""
    results = []
    same_noise = pipeline.dtype == torch.float32  # stock draws its noise in the model's precision
    for workload in workloads:
        theirs, pictures = measure("stock", stock_draws(pipeline), workload, timed_steps, steps, [])
        ours, _ = measure(
            "packshot", packshot_draws(generator), workload, timed_steps, steps, pictures if same_noise else []
        )
        results += [theirs, ours]
        gc.collect()
    return results


def full_size(arguments: argparse.Namespace) -> list[Result]:
    """Random weights at the real size on one GPU, or at toy size on the CPU."""
    tiny = arguments.tiny
    device, dtype = (torch.device("cpu"), torch.float32) if tiny else (torch.device("cuda", 0), torch.bfloat16)
    with quiet():
        pipeline = build(TINY if tiny else FULL, device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    workloads = [
        Workload(size, rows, mixed)
        for size, rows, mixed in (
            [(64, 1, False), (64, 8, True)]
            if tiny
            else [(1024, 1, False), (1024, 8, False), (1024, 8, True), (512, 1, False), (512, 32, True)]
        )
    ]
    components = components_of(pipeline, device, dtype)
    if not arguments.streamed:
        return compare(pipeline, Generator(components), workloads, (2, 4), arguments.steps)
    components.transformer.to("cpu")
    components.text_encoder.to("cpu")
    del pipeline
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    stream(components.transformer, device)
    draw = packshot_draws(Generator(replace(components, placement="streamed"), batch=8))
    return [measure("packshot streamed", draw, load, (2, 4), arguments.steps, [])[0] for load in workloads[:2]]


def miniature(arguments: argparse.Namespace) -> list[Result]:
    """The miniature on the CPU, whole pictures; here the pictures mean something, so they are compared."""
    checkpoint = find_checkpoint("miniature")
    defaults = sampling_defaults(checkpoint)
    with quiet():
        pipeline = QwenImagePipeline.from_pretrained(checkpoint.folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    workloads = [Workload(defaults.width, rows, mixed, defaults.guidance) for rows, mixed in ((1, False), (8, True))]
    generator = Generator.load(checkpoint, device="cpu")
    return compare(pipeline, generator, workloads, None, arguments.steps or defaults.steps)


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--miniature", action="store_true", help="the miniature on the CPU")
    kind.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--streamed", action="store_true", help="packshot alone, with the weights in host memory")
    parser.add_argument("--steps", type=int, help="steps a picture (50; the miniature's own)")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    if not arguments.miniature:
        arguments.steps = arguments.steps or 50

    print(HEADER)
    results = miniature(arguments) if arguments.miniature else full_size(arguments)
    device = platform.processor() or platform.machine()
    if torch.cuda.is_available() and not (arguments.tiny or arguments.miniature):
        device = torch.cuda.get_device_name(0)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, diffusers {diffusers.__version__}")
    if any(result.computed for result in results):
        print(f"s/picture is computed for {arguments.steps} steps from the seconds a step and the rest, both measured.")
    if arguments.out:
        versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        report = {"device": device, "versions": versions, "results": [asdict(result) for result in results]}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

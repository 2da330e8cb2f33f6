"""How exact the fast road is at full size: one block against float64, and rows alone against rows in batches.

    python -m benchmarks.precision --out out/precision.json    # full size, random weights, one GPU
    python -m benchmarks.precision --tiny                      # does this script work? on the CPU

One double-stream block is computed in float64 from the same bfloat16 weights and inputs; the errors of diffusers' own
block in bfloat16, of packshot's, and of packshot's in float8 are relative to it, over all tokens of the image stream.
And some steps of whole pictures are denoised alone and in batches of several sizes: what batch mates change of a row.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel

from benchmarks.full_size import FULL, TINY, new_transformer
from benchmarks.results import tell
from models.architectures.qwen_image.padded import Padded
from models.architectures.qwen_image.varlen import Varlen
from models.transformer.predictor import Predictor

TEXT_TOKENS = (67, 6)
BATCHES = (2, 4, 8)
STEPS = 3


@dataclass(frozen=True)
class Error:
    """How far one thing is from another, ‖one − other‖ / ‖other‖."""

    what: str
    relative: float


def predict(
    predictor: Predictor, texts: list[list[torch.Tensor]], latents: torch.Tensor, side: int, step: int = 1
) -> torch.Tensor:
    """The prediction of one step of three [branches, B, N, C]."""
    # Rounded before they are taken to float64, so that all are asked about the same noise level.
    timesteps = torch.linspace(1, 0.02, STEPS + 1, device=latents.device).bfloat16().to(latents.dtype)
    return predictor.condition(texts, [(1, side, side)], timesteps).predict(step, latents)


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """‖one − other‖ / ‖other‖ in float64."""
    return float((one.double() - other.double()).norm() / other.double().norm())


def inputs(
    config: dict[str, Any], rows: int, side: int, like: torch.Tensor
) -> tuple[list[list[torch.Tensor]], torch.Tensor]:
    """Random embeddings of each row's two prompts, of unlike lengths, and its latents."""
    generator = torch.Generator().manual_seed(0)
    width = config.get("joint_attention_dim", 3584)
    texts = [
        [torch.randn(length + row, width, generator=generator).to(like) for length in TEXT_TOKENS]
        for row in range(rows)
    ]
    return texts, torch.randn(rows, side * side, 64, generator=generator).to(like)


def one_block(config: dict[str, Any], side: int, device: torch.device, dtype: torch.dtype) -> list[Error]:
    """The errors of one block, with what comes before and after it."""
    torch.manual_seed(0)
    model = new_transformer({**config, "num_layers": 1}, device, dtype)
    texts, latents = inputs(config, 1, side, model.proj_out.weight)
    exact = in_float64(model)
    wanted = predict(Padded(exact), [[text.double() for text in row] for row in texts], latents.double(), side)
    del exact
    return [
        Error("one block: diffusers", relative(predict(Padded(model), texts, latents, side), wanted)),
        Error("one block: packshot", relative(predict(Varlen(model), texts, latents, side), wanted)),
        Error(
            "one block: packshot float8", relative(predict(Varlen(model, float8=True), texts, latents, side), wanted)
        ),
    ]


def in_float64(model: QwenImageTransformer2DModel) -> QwenImageTransformer2DModel:
    """A copy in float64, its rotary tables too."""
    exact = copy.deepcopy(model).double()
    exact.pos_embed = copy.deepcopy(model.pos_embed)
    return exact


def batches(config: dict[str, Any], side: int, device: torch.device, dtype: torch.dtype) -> list[Error]:
    """What batch mates change of the first row's prediction."""
    model = new_transformer(config, device, dtype)
    rows = max(BATCHES)
    texts, latents = inputs(config, rows, side, model.proj_out.weight)
    errors = []
    for name, float8 in (("packshot", False), ("packshot float8", True)):
        varlen = Varlen(model, float8=float8)
        alone = predict(varlen, texts[:1], latents[:1], side)
        for count in BATCHES:
            together = predict(varlen, texts[:count], latents[:count], side)[:, :1]
            errors.append(Error(f"{name}: a row among {count} against alone", relative(together, alone)))
        again = predict(varlen, texts[:1], latents[:1], side)
        errors.append(Error(f"{name}: a row alone, twice", relative(again, alone)))
    return errors


@torch.inference_mode()
def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    tiny = arguments.tiny
    config: dict[str, Any] = (TINY if tiny else FULL)["transformer"]
    device, side = torch.device("cpu" if tiny else "cuda:0"), 8 if tiny else 64

    errors = one_block(config, side, device, torch.bfloat16) + batches(config, side, device, torch.bfloat16)
    for error in errors:
        print(f"{error.what:50} {error.relative:.2e}")
    print(f"bfloat16, {side * 16}²")
    tell(arguments.out, on_cpu=tiny, errors=list(map(asdict, errors)))


if __name__ == "__main__":
    main()

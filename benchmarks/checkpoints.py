"""A Qwen-Image checkpoint of random weights on disk, as diffusers and transformers save one.

Written shard by shard from shapes alone, so that neither 58 GB of host memory nor of a GPU's are needed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import save_file
from transformers import Qwen2_5_VLForConditionalGeneration

from benchmarks.full_size import FULL, TINY, byte_tokenizer, new_processor, new_vae, text_encoder_config
from models.loading.component import loading
from models.miniature.networks.architecture import new_scheduler

SHARD_BYTES = 5 * 10**9  # what both libraries cut at


def write_checkpoint(
    folder: Path,
    *,
    blocks: int | None = None,
    layers: int | None = None,
    tiny: bool = False,
    layered: bool = False,
    edits: bool = False,
    hollow: bool = False,
    durable: bool = True,
) -> list[Path]:
    """Write a checkpoint, and return the files of its weights.

    Args:
        layered: a Qwen-Image-Layered instead of a Qwen-Image.
        edits: a Qwen-Image-Edit-2511 instead.
        hollow: weights are zeros that take no room on the disk.
        durable: wait until the disk has them for sure.
        blocks, layers: of the transformer and of the text encoder; as many as Qwen-Image's by default.
        tiny: toy sizes in float32 and small shards, instead of full size in bfloat16.
    """
    sizes, dtype = (TINY, torch.float32) if tiny else (FULL, torch.bfloat16)
    shard_bytes = 100_000 if tiny else SHARD_BYTES
    with loading(), torch.device("meta"):
        config = {**sizes["transformer"], **({"num_layers": blocks} if blocks else {})}
        transformer = QwenImageTransformer2DModel(
            **config, use_layer3d_rope=layered, use_additional_t_cond=layered, zero_cond_t=edits
        )
        text = {**sizes["text"], **({"num_hidden_layers": layers} if layers else {})}
        text_config = text_encoder_config(text, sizes["vision"])
        text_encoder = Qwen2_5_VLForConditionalGeneration(text_config)
    transformer.save_config(folder / "transformer")
    text_config.architectures = [type(text_encoder).__name__]
    text_config.save_pretrained(folder / "text_encoder")
    _write_weights(transformer, folder / "transformer", "diffusion_pytorch_model", dtype, shard_bytes, hollow)
    _write_weights(text_encoder, folder / "text_encoder", "model", dtype, shard_bytes, hollow)
    vae = {**sizes["vae"], **({"input_channels": 4} if layered else {})}
    with loading():
        new_vae(vae, torch.device("cpu"), dtype).save_pretrained(folder / "vae")
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    if edits:
        new_processor(byte_tokenizer()).save_pretrained(folder / "processor")
        if tiny:
            (folder / "sampling_config.json").write_text(json.dumps({"resolution": 64, "vision_resolution": 96}))
    new_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": f"QwenImage{'Layered' if layered else 'EditPlus' if edits else ''}Pipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "transformer": ["diffusers", "QwenImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLQwenImage"],
        **({"processor": ["transformers", "Qwen2VLProcessor"]} if edits else {}),
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    files = sorted(folder.rglob("*.safetensors"))
    for file in files if durable else ():
        with file.open("rb") as content:
            os.fsync(content.fileno())
    return files


def _write_weights(model: Any, folder: Path, stem: str, dtype: torch.dtype, shard_bytes: int, hollow: bool) -> None:
    """Write weights for a model that is on meta, in shards and with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shards = list(_cut(shapes, dtype.itemsize, shard_bytes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(0)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        if hollow:
            _write_hollow(folder / file, {name: shapes[name] for name in names}, dtype)
        else:
            tensors = {name: _random(name, shapes[name], generator, dtype) for name in names}
            save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    total = sum(torch.Size(shape).numel() * dtype.itemsize for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_hollow(file: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """A safetensors file (https://github.com/huggingface/safetensors#format) with a hole where its numbers would be."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        kind = {torch.float32: "F32", torch.bfloat16: "BF16"}[dtype]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as content:
        content.write(len(text).to_bytes(8, "little") + text)
        content.truncate(8 + len(text) + end)


def _cut(shapes: dict[str, tuple[int, ...]], itemsize: int, most: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        bytes_of_it = torch.Size(shape).numel() * itemsize
        if names and size + bytes_of_it > most:
            yield names
            names, size = [], 0
        names.append(name)
        size += bytes_of_it
    yield names


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    if len(shape) == 1:  # norms and biases
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=dtype)
    tensor = torch.empty(shape, dtype=dtype, device=generator.device)
    return tensor.normal_(0, 0.02, generator=generator).cpu()

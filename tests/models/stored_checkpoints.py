"""Checkpoints in few bits: as diffusers and transformers save what bitsandbytes compressed, and in float8."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import BitsAndBytesConfig, QwenImageTransformer2DModel
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig as TextBitsAndBytesConfig
from transformers import Qwen2_5_VLForConditionalGeneration

from models.loading.component import loading

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
HOST = {"": "cpu"}


def copied(source: Path, folder: Path) -> Path:
    """A copy of a checkpoint, to be changed."""
    return Path(shutil.copytree(source, folder))


def save_bitsandbytes(source: Path, folder: Path, *, skip: tuple[str, ...] = (), **settings: Any) -> Path:
    """Let diffusers and transformers compress a checkpoint's transformer and text encoder, and save them.

    Args:
        skip: parts of the transformer that stay as they are.
        settings: of BitsAndBytesConfig.
    """
    copied(source, folder)
    for part in ("transformer", "text_encoder"):
        shutil.rmtree(folder / part)
    config = BitsAndBytesConfig(**settings, llm_int8_skip_modules=[*skip])
    with loading(), pytest.MonkeyPatch.context() as patch:
        # diffusers 0.42.1 asks for a GPU, which bitsandbytes 0.50.2 no longer needs.
        for quantizer in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):
            patch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
        model = QwenImageTransformer2DModel.from_pretrained(
            source / "transformer", quantization_config=config, device_map=HOST, dtype=torch.bfloat16
        )
        model.save_pretrained(folder / "transformer")
        text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            source / "text_encoder",
            quantization_config=TextBitsAndBytesConfig(**settings),
            device_map=HOST,
            dtype=torch.bfloat16,
        )
        text_encoder.save_pretrained(folder / "text_encoder")
    return folder


def save_float8(
    source: Path,
    folder: Path,
    scales: str = "none",
    *,
    name: str = "weight_scale",
    part: str = TRANSFORMER,
    dimensions: tuple[int, ...] = (2,),
) -> Path:
    """Save a checkpoint with weights in float8_e4m3fn.

    Args:
        scales: `none` to cast them; `tensor` or `row` for what lies beside each weight.
        name: what the scales are called.
        part: which file.
        dimensions: of the weights; two are those of linear layers.
    """
    copied(source, folder)
    tensors = {}
    for key, tensor in load_file(source / part).items():
        if not key.endswith(".weight") or tensor.ndim not in dimensions:
            tensors[key] = tensor
            continue
        weight = tensor.float()
        scale = torch.ones(())
        if scales != "none":
            top = weight.abs().amax() if scales == "tensor" else weight.abs().amax(1, keepdim=True)
            scale = top.clamp(min=1e-12) / 448
            tensors[f"{key.removesuffix('weight')}{name}"] = scale
        tensors[key] = (weight / scale).to(torch.float8_e4m3fn)
    save_file(tensors, folder / part)
    return folder


def edit_config(part: Path, **changes: Any) -> None:
    """Change a component's config.json."""
    file = part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))

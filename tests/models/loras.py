"""LoRAs with random weights, as PEFT trains them and diffusers or kohya's scripts save them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from models.loading.component import loading

RANK, ALPHA = 4, 8
TARGETS = ("to_q", "add_k_proj", "to_out.0", "img_mlp.net.2", "img_mod.1", "proj_out")


def save_lora(
    transformer: QwenImageTransformer2DModel,
    file: Path,
    seed: int = 0,
    targets: Sequence[str] = TARGETS,
    *,
    use_dora: bool = False,
) -> Path:
    """Give a transformer an adapter that changes its pictures, and save it as diffusers' own training scripts do."""
    torch.manual_seed(seed)
    with loading():
        config = LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules=list(targets), init_lora_weights=False, use_dora=use_dora
        )
        transformer.add_adapter(config, "trained")
        QwenImagePipeline.save_lora_weights(
            file.parent,
            get_peft_model_state_dict(transformer, adapter_name="trained"),
            weight_name=file.name,
            transformer_lora_adapter_metadata=config.to_dict(),
        )
    return file


def with_alphas(file: Path, to: Path, prefix: str) -> Path:
    """A LoRA of `save_lora` in the naming of other trainers: down, up and alpha of each module.

    Args:
        prefix: `lora_unet_` for kohya's scripts, which flatten modules' names; `diffusion_model.`, or nothing, as
            ModelTC's Lightning LoRAs have it.
    """
    renamed = {}
    for name, tensor in load_file(file).items():
        module, factor = name.removeprefix("transformer.").split(".lora_")
        module = prefix + (module.replace(".", "_") if prefix == "lora_unet_" else module)
        renamed[f"{module}.{'lora_down' if factor == 'A.weight' else 'lora_up'}.weight"] = tensor
        renamed[f"{module}.alpha"] = torch.tensor(float(ALPHA))
    save_file(renamed, to)
    return to

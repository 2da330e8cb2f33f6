"""A checkpoint that is moved in a moment: the miniature's settings, with weights that nothing is drawn with."""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from models.checkpoints.checkpoint import MINIATURE

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
FILES = 12


def small_checkpoint(folder: Path) -> Path:
    """Write it into `folder`, which must not be there; its three safetensors files have 256 KiB and more each."""
    shutil.copytree(MINIATURE / "qwen-image", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for number, path in enumerate((WEIGHTS, WEIGHTS.replace("transformer", "vae"), "text_encoder/model.safetensors")):
        values = np.random.default_rng(number).standard_normal(64 << 10, dtype=np.float32)
        save_file({"weight": values}, folder / path)
    return folder

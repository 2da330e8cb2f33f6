"""Which noise schedule a model is sampled with. Importing this module doesn't import torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.lora import Lora
from models.files.safetensors_files import read_json

Scheduler = Literal["checkpoint", "lightning"]
WantedScheduler = Literal["auto", "checkpoint", "lightning"]

LIGHTNING: dict[str, Any] = {
    "base_image_seq_len": 256,
    "base_shift": math.log(3),
    "invert_sigmas": False,
    "max_image_seq_len": 8192,
    "max_shift": math.log(3),
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "shift_terminal": None,
    "stochastic_sampling": False,
    "time_shift_type": "exponential",
    "use_beta_sigmas": False,
    "use_dynamic_shifting": True,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}
"""What the Lightning LoRAs were distilled with, as a FlowMatchEulerDiscreteScheduler's config: sigmas shifted by 3 at
every size. From generate_with_diffusers.py of ModelTC/Qwen-Image-Lightning at 342260e8f5468d2f24d084ce04f55e101007118b.
Layers take their shift from the source's size, as `QwenImageLayeredPipeline` has it; of this they have the free end."""


def resolve_scheduler(wanted: WantedScheduler, loras: Sequence[Lora]) -> Scheduler:
    """Return what `auto` stands for: `lightning` where one of the LoRAs is a Lightning one, else the
    checkpoint's own.
    """
    if wanted != "auto":
        return wanted
    return "lightning" if any(lora.is_lightning for lora in loras) else "checkpoint"


def fewest_steps(checkpoint: Checkpoint, scheduler: Scheduler) -> int:
    """Return the fewest denoising steps a checkpoint can take.

    A schedule that is stretched to end at a given noise level has no room for that in one step.
    """
    own = checkpoint.folder / "scheduler" / "scheduler_config.json"
    config = LIGHTNING if scheduler == "lightning" else read_json(own)
    return 2 if config.get("shift_terminal") else 1

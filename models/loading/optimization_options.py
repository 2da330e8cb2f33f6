"""What makes a transformer fast, and can be switched off: docs/speed.md says what each is worth."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.devices.attention import Attention
from models.files.safetensors_files import CheckpointError
from models.loading.components import Components
from models.transformer.host_weights import stream_layers
from models.transformer.predictor import Predictor


@dataclass(frozen=True)
class OptimizationOptions:
    """How a transformer is run. `float8` and the caches approximate; the others change pictures by rounding alone."""

    fused: bool = True  # packed sequences and fused operations, or diffusers' own forward
    attention: Attention = "auto"  # the kernel that is tried first
    float8: bool = False  # multiply the image stream's tokens in float8
    step_cache: float | None = None  # see `models.transformer.step_cache`
    condition_cache: int = 1  # see `models.transformer.condition_cache`


def open_predictor(components: Components, options: OptimizationOptions) -> Predictor:
    """Return a transformer as the options want it run.

    Raises:
        CheckpointError: if one of them needs another.
    """
    architecture = components.architecture
    resident, homes = components.placement.resident_blocks, list(map(torch.device, components.placement.homes))
    if options.fused:
        return architecture.varlen(
            components.transformer,
            float8=options.float8,
            attention=options.attention,
            step_cache=options.step_cache,
            condition_cache=options.condition_cache,
            device=components.device,
            resident=resident,
            homes=homes,
        )
    asked = {
        "The precision float8": options.float8,
        "A step cache": options.step_cache is not None,
        "A condition cache": options.condition_cache > 1,
        "Several GPUs": bool(homes),
    }
    if needing := next((name for name, is_asked in asked.items() if is_asked), None):
        sentence = f"{needing} needs the fused transformer, but fused is off"
        raise CheckpointError(sentence, "leave it out, or change that.")
    if resident is not None:
        stream_layers(components.transformer.transformer_blocks, components.device, resident)
    return architecture.padded(components.transformer)

"""Which part of a model holds how much of a device's memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from models.architectures.qwen_image.varlen import Varlen
from models.loading.components import Components
from models.transformer.predictor import Predictor
from models.units import GIB


def holdings(components: Components, predictor: Predictor) -> dict[str, int]:
    """Bytes on the device, by the part that holds them; parts that hold nothing aren't named."""
    device = components.device
    modules = {"text encoder": components.text_encoder, "transformer": components.transformer, "VAE": components.vae}
    if components.controlnet is not None:
        modules["ControlNet"] = components.controlnet.model
    streams = {"text encoder": components.text_layers}
    if isinstance(predictor, Varlen):
        streams["transformer"] = predictor.blocks.stream
    held = {}
    for name, module in modules.items():
        stream = streams.get(name)
        held[name] = _bytes([*module.parameters(), *(stream.on_device() if stream else ())], device)
    if isinstance(predictor, Varlen):
        held["modulations of its schedules"] = predictor.schedule_bytes
    return {name: size for name, size in held.items() if size}


def told(held: dict[str, int]) -> str:
    """In words: `transformer 25.1 GiB, VAE 0.1 GiB`."""
    return ", ".join(f"{name} {size / GIB:.1f} GiB" for name, size in held.items())


def _bytes(tensors: Iterable[torch.Tensor], device: torch.device) -> int:
    """Of the memory behind tensors on a device, of which several may be views."""
    behind = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.device == device
    }
    return sum(behind.values())

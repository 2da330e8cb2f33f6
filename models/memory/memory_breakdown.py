"""Which part of a model holds how much of a device's memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from models.loading.components import Components
from models.transformer.predictor import Predictor
from models.units import GIB


def memory_breakdown(components: Components, predictor: Predictor) -> dict[str, int]:
    """Bytes on the device, by the part that holds them; parts that hold nothing aren't named."""
    device = components.device
    modules = {"text encoder": components.text_encoder, "transformer": components.transformer, "VAE": components.vae}
    if components.controlnet is not None:
        modules["ControlNet"] = components.controlnet.model
    streamed = {
        "text encoder": components.text_layers.on_device() if components.text_layers else (),
        "transformer": predictor.blocks_on_device(),
    }
    sizes = {name: _bytes([*part.parameters(), *streamed.get(name, ())], device) for name, part in modules.items()}
    sizes["modulations of its schedules"] = predictor.schedule_bytes
    return {name: size for name, size in sizes.items() if size}


def format_breakdown(breakdown: dict[str, int]) -> str:
    """Return a breakdown in words: `transformer 25.1 GiB, VAE 0.1 GiB`."""
    return ", ".join(f"{name} {size / GIB:.1f} GiB" for name, size in breakdown.items())


def _bytes(tensors: Iterable[torch.Tensor], device: torch.device) -> int:
    """Of the memory behind tensors on a device, of which several may be views."""
    behind = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.device == device
    }
    return sum(behind.values())

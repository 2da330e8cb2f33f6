"""Modules whose weights wait in host memory: brought to the device for a while, or layer by layer as they are used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from models.transformer.weight_stream import WeightStream


def stream_layers(
    layers: Sequence[nn.Module], device: torch.device, resident: Collection[int] = frozenset()
) -> WeightStream:
    """Have layers that are called in their order take turns on a device; their weights wait in host memory.

    Args:
        resident: positions of those whose weights stay on the device.

    Returns:
        what holds the weights; releasing it gives back what the last ones to be called have on the device.
    """
    stream = WeightStream(device)
    for index, layer in enumerate(layers):
        places = [(part, name) for part in layer.modules() for name, _ in part.named_parameters(recurse=False)]
        stream.add([getattr(part, name).data.contiguous() for part, name in places], resident=index in resident)
        _fill(places, [torch.empty(0, device=device)] * len(places))
        layer.to(device)  # its buffers
        if index in resident:
            _fill(places, stream.begin(index))
        else:
            _take_turns(layer, places, stream, index)
    return stream


def _take_turns(layer: nn.Module, places: Sequence[tuple[nn.Module, str]], stream: WeightStream, index: int) -> None:
    gone = torch.empty(0, device=stream.device)

    def come(*_: object) -> None:
        _fill(places, stream.begin(index))

    def go(*_: object) -> None:
        stream.end(index)
        _fill(places, [gone] * len(places))

    layer.register_forward_pre_hook(come)
    layer.register_forward_hook(go, always_call=True)


def _fill(places: Sequence[tuple[nn.Module, str]], tensors: Sequence[torch.Tensor]) -> None:
    for (part, name), tensor in zip(places, tensors, strict=True):
        setattr(part, name, nn.Parameter(tensor, requires_grad=False))


def look_up_on_host(embedding: nn.Embedding, device: torch.device) -> None:
    """Have an embedding look tokens up wherever its table is, and give what it found on a device."""
    embedding.register_forward_pre_hook(lambda module, ids: tuple(each.to(module.weight.device) for each in ids))
    embedding.register_forward_hook(lambda _module, _ids, found: found.to(device))


@contextmanager
def brought_in(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Bring what a module has in host memory to `device` for a while.

    The host's copy is kept, so that leaving costs nothing.
    """
    away: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (store, name, tensor)
        for part in module.modules()
        for store in (part._parameters, part._buffers)
        for name, tensor in store.items()
        if tensor is not None and tensor.device != device
    ]
    try:
        for store, name, tensor in away:
            there = tensor.data.to(device)
            store[name] = nn.Parameter(there, requires_grad=False) if isinstance(tensor, nn.Parameter) else there
        yield
    finally:
        for store, name, tensor in away:
            store[name] = tensor
        if away and device.type == "cuda":
            torch.cuda.empty_cache()

"""LoRAs merged into a transformer when it is loaded, so that they cost nothing afterwards."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from models.checkpoints.lora import Lora, prefixed
from models.failure import first_line
from models.files.safetensors_files import CheckpointError, read_shapes


def merge(transformer: nn.Module, loras: Sequence[Lora], loader: Callable[[Any], Any]) -> None:
    """Merge LoRAs into `transformer`, in place: each weight becomes W + Σ scale · alpha / rank · B A.

    As diffusers' `fuse_lora`, but layer by layer in float32, so that a weight of lower precision is rounded once.

    Args:
        loader: see `models.architectures.model_family.Architecture.lora_loader`.

    Raises:
        CheckpointError: if a LoRA can't be loaded, or not all of it.
    """
    if not loras:
        return
    pipeline = loader(transformer)
    names = [f"lora{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _load(pipeline, lora, name)
    pipeline.set_adapters(names, [lora.scale for lora in loras])
    for layer in transformer.modules():
        if isinstance(layer, BaseTunerLayer):
            dtype = layer.get_base_layer().weight.dtype
            layer.float()
            layer.merge()
            layer.to(dtype)
    pipeline.unload_lora_weights()


def _load(pipeline: Any, lora: Lora, name: str) -> None:
    """Put a LoRA beside the layers that it changes; what diffusers warns of, as of unused weights, is an error."""
    try:
        with _warnings() as warnings:
            pipeline.load_lora_weights(
                _without_prefix(lora) or str(lora.file.parent),
                weight_name=lora.file.name,
                adapter_name=name,
                local_files_only=True,
                use_safetensors=True,
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise CheckpointError(f"{lora.file} can't be merged: {first_line(error).rstrip('.')}.") from error
    if warnings:
        raise CheckpointError(f"{lora.file} can't be merged as a whole: {warnings[0].strip()[:300].rstrip('.')}.")


def _without_prefix(lora: Lora) -> dict[str, torch.Tensor] | None:
    """The tensors of a LoRA under names that diffusers reads; None where it reads the file's own."""
    if not prefixed(read_shapes(lora.file)):
        return None
    return {name.removeprefix("transformer."): tensor for name, tensor in load_file(lora.file).items()}


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What diffusers logs as warnings meanwhile, instead of showing it."""
    heard: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    library = logging.getLogger("diffusers")
    handlers, level = library.handlers, library.level
    library.handlers = [Recorder(logging.WARNING)]
    library.setLevel(logging.WARNING)
    try:
        yield heard
    finally:
        library.handlers = handlers
        library.setLevel(level)

"""Reading weights that a checkpoint stores compressed, without the libraries' own quantizers.

Those of diffusers 0.42.1 refuse to run without a GPU and give modules that only they can multiply with; and what
scales lie beside float8 weights no loader knows. Here weights are taken as they are stored, or dequantized to floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import nn

from models.files.quantization_schemes import FOUR_BITS, QuantizationScheme, Stored, compresses
from models.files.safetensors_files import CheckpointError, Tensor
from models.transformer.quantized import INT8_MAX, CompressedLinear, Weight

Read = Callable[[Tensor], torch.Tensor]


def assemble(
    model_class: Any,
    folder: Path,
    weights: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype,
    keep: QuantizationScheme | None,
) -> Any:
    """Make a diffusers model of stored weights.

    Args:
        weights: what `stored_weights` says of `folder`.
        device: where they are put.
        dtype: of all weights but those that are kept compressed.
        keep: the scheme in which weights of the blocks stay as they are; None to restore all of them.

    Raises:
        CheckpointError: if the weights aren't those that the folder's config.json asks for.
    """
    config = {name: value for name, value in model_class.load_config(folder).items() if name != "quantization_config"}
    with init_empty_weights():
        model = model_class.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if odd := sorted(
        name for name in {*shapes, *weights} if name not in weights or weights[name].shape != shapes.get(name)
    ):
        raise CheckpointError(f"{folder} doesn't fit its own config.json: {odd[0]} is missing or of another size.")
    with opened() as read:
        for name, stored in weights.items():
            module_name, _, part = name.rpartition(".")
            module = model.get_submodule(module_name)
            if (
                keep is not None
                and stored.scheme == keep
                and isinstance(module, nn.Linear)
                and compresses(name, stored.shape, keep)
            ):
                kept = CompressedLinear(stored_weight(stored, read), module.bias)
                kept.codes.data, kept.scales.data = kept.codes.data.to(device), kept.scales.data.to(device)
                model.set_submodule(module_name, kept)
            else:
                setattr(module, part, nn.Parameter(dequantized(stored, read, dtype).to(device), requires_grad=False))
    return model


def keep_stored(model: nn.Module, weights: Mapping[str, Stored]) -> None:
    """Let the linear layers of a transformers model's blocks have their weights as they are stored again, in place.

    transformers calls parts of a model by other names than its checkpoints, but what comes after `layers.` by the same.
    """
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    ours = {name.partition("layers.")[2]: name for name in linears}
    with opened() as read:
        for name, stored in weights.items():
            if stored.scheme is not None and compresses(name, stored.shape, stored.scheme):
                found = ours[name.partition("layers.")[2].removesuffix(".weight")]
                model.set_submodule(found, CompressedLinear(stored_weight(stored, read), linears[found].bias))


def dequantized_state(weights: Mapping[str, Stored], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return all weights as floats, in host memory, by name."""
    with opened() as read:
        return {name: dequantized(stored, read, dtype) for name, stored in weights.items()}


def dequantized(stored: Stored, read: Read, dtype: torch.dtype) -> torch.Tensor:
    """Return a parameter as floats."""
    if stored.scheme is None:
        return read(stored.tensor).to(dtype)
    return stored_weight(stored, read).dequantize(dtype).view(stored.shape)


def stored_weight(stored: Stored, read: Read) -> Weight:
    """Return a compressed parameter as it is stored; one of more or fewer than two axes as [its first, the others]."""
    codes, beside = read(stored.tensor), stored.beside
    assert stored.scheme is not None
    rows = stored.shape[0]
    if stored.scheme in FOUR_BITS:
        codes = codes.view(torch.uint8)  # they may lie in a tensor of another type: bnb_4bit_quant_storage
        return Weight(codes.view(rows, -1), _block_scales(beside, read), stored.scheme, stored.block)
    if stored.scheme == "int8":
        scales = read(beside["SCB"]).float() / INT8_MAX
    else:
        scales = read(beside["scale"]).float() if "scale" in beside else torch.ones(())
    return Weight(codes.view(rows, -1), scales.flatten().expand(rows).contiguous(), stored.scheme, stored.block)


def _block_scales(beside: Mapping[str, Tensor], read: Read) -> torch.Tensor:
    """The scales of 4-bit blocks, float32; bitsandbytes may have compressed them, too (bnb_4bit_use_double_quant)."""
    from bitsandbytes.functional import QuantState, dequantize_blockwise

    state = QuantState.from_dict({role: read(tensor) for role, tensor in beside.items()}, torch.device("cpu"))
    scales: torch.Tensor = state.absmax
    if state.nested:
        scales = dequantize_blockwise(scales, state.state2) + state.offset
    return scales.float()


@contextmanager
def opened() -> Iterator[Read]:
    """Give a function that reads tensors of safetensors files, each of which is opened once."""
    with ExitStack() as stack:
        files: dict[Path, Any] = {}

        def read(tensor: Tensor) -> torch.Tensor:
            if tensor.file not in files:
                files[tensor.file] = stack.enter_context(safe_open(tensor.file, framework="pt"))
            found: torch.Tensor = files[tensor.file].get_tensor(tensor.name)
            return found

        yield read

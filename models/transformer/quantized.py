"""Weights that are kept in 8 or 4 bits, and dequantized right before their product.

With the thousands of tokens of a batch restoring them costs next to nothing, and the product itself runs at the full
speed of 16 bits. Nothing else is rounded, where bitsandbytes' own product in 8 bits rounds the tokens, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from models.failure import first_line
from models.files.quantization_schemes import BLOCK, FOUR_BITS, QuantizationScheme, compresses
from models.files.safetensors_files import CheckpointError
from models.transformer.fused import FLOAT8, FLOAT8_MAX, Tokens
from models.transformer.linears import LinearProduct, Plain, merged

INT8_MAX = 127


class Weight(NamedTuple):
    """A weight [out, in] that is kept compressed."""

    codes: (
        torch.Tensor
    )  # int8 or float8 [out, in]; uint8 [out, in / 2], each of two numbers, the first in its high bits
    scales: torch.Tensor  # float32 [out · in / block]
    scheme: QuantizationScheme
    block: int  # numbers that share a scale, one row after another; in 8 bits a row

    def to(self, device: torch.device) -> Weight:
        """Return the weight on a device."""
        return self._replace(codes=self.codes.to(device), scales=self.scales.to(device))

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight [out, in]."""
        codes, scales = self.codes, self.scales
        if self.scheme in FOUR_BITS:
            from bitsandbytes.functional import QuantState, dequantize_4bit

            # A row for each block: on the CPU bitsandbytes 0.50.2 restores wrongly what lies across rows.
            shape = torch.Size((len(scales), self.block))
            state = QuantState(scales, shape=shape, blocksize=self.block, quant_type=self.scheme, dtype=dtype)
            whole: torch.Tensor = dequantize_4bit(codes.view(-1, 1), state)
            return whole.view(len(codes), -1)
        numbers = codes if codes.dtype == torch.int8 else codes.to(dtype)  # float8 has no arithmetic of its own
        return torch.mul(numbers, scales[:, None], out=torch.empty(codes.shape, dtype=dtype, device=codes.device))


def quantize(weight: torch.Tensor, scheme: QuantizationScheme) -> Weight:
    """Compress a weight [out, in], whose numbers fill whole blocks where the scheme has 4 bits."""
    if scheme in FOUR_BITS:
        from bitsandbytes.functional import quantize_4bit

        codes, state = quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type=scheme)
        return Weight(codes.view(len(weight), -1), state.absmax, scheme, BLOCK)
    rows = weight.float()
    scales = rows.abs().amax(1).clamp(min=1e-12) / (INT8_MAX if scheme == "int8" else FLOAT8_MAX)
    numbers = rows / scales[:, None]
    codes = numbers.round().to(torch.int8) if scheme == "int8" else numbers.to(FLOAT8)
    return Weight(codes, scales, scheme, weight.shape[1])


def check_scheme(scheme: QuantizationScheme | None, device: torch.device) -> None:
    """Try a scheme on a device, where it takes a library; None are floats.

    Raises:
        CheckpointError: if weights of 4 bits can't be kept there.
    """
    if scheme not in FOUR_BITS:
        return
    try:
        quantize(torch.ones(1, BLOCK, device=device), scheme).dequantize(torch.bfloat16)
    except ImportError:
        raise CheckpointError(
            f"Weights in {scheme} need bitsandbytes, which isn't installed",
            "install it, or use weights of 8 bits or more.",
        ) from None
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise CheckpointError(
            f"bitsandbytes can't keep weights in {scheme} on {device} ({first_line(error).rstrip('.')})",
            "use weights of 8 bits or more.",
        ) from error


@dataclass(frozen=True)
class Compressed(LinearProduct):
    """A product with weights that are kept compressed; its fields but the bias are those of `Weight`."""

    codes: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor  # [out], in the precision of the arithmetic
    scheme: QuantizationScheme
    block: int
    quantizes = False

    def plain(self) -> Plain:
        """Return the product with its weights dequantized, for as long as it is used."""
        return Plain(Weight(self.codes, self.scales, self.scheme, self.block).dequantize(self.bias.dtype), self.bias)

    def __call__(self, x: Tokens) -> torch.Tensor:
        """See `LinearProduct`."""
        return self.plain()(x)

    def gelu(self, x: Tokens) -> Tokens:
        """See `LinearProduct`."""
        return self.plain().gelu(x)


class CompressedLinear(nn.Module):
    """What `nn.Linear` computes, with a weight that is kept compressed."""

    def __init__(self, weight: Weight, bias: torch.Tensor | None) -> None:
        """Nothing is copied."""
        super().__init__()
        self.codes = nn.Parameter(weight.codes, requires_grad=False)
        self.scales = nn.Parameter(weight.scales, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.scheme, self.block = weight.scheme, weight.block

    @property
    def kept(self) -> Weight:
        """The weight as it is kept."""
        return Weight(self.codes, self.scales, self.scheme, self.block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X Wᵀ + b: [..., in] to [..., out]."""
        return functional.linear(x, self.kept.dequantize(x.dtype), self.bias)


def compress(model: nn.Module, scheme: QuantizationScheme, device: torch.device, home: torch.device) -> None:
    """Compress the weights of the linear layers of a model's blocks, in place, one after another.

    Args:
        device: where that is done.
        home: where they are put then; the rest of `model` stays where it is.
    """
    for name, linear in [*model.named_modules()]:
        if isinstance(linear, nn.Linear) and compresses(f"{name}.weight", linear.weight.shape, scheme):
            bias = None if linear.bias is None else linear.bias.data
            kept = CompressedLinear(quantize(linear.weight.data.to(device), scheme), bias)
            model.set_submodule(name, kept.to(home))


def product_of(linears: Sequence[nn.Linear | CompressedLinear]) -> LinearProduct:
    """One product of linears with one input, below one another, as they are; they keep theirs as views of it."""
    kept = [linear for linear in linears if isinstance(linear, CompressedLinear)]
    if not kept:
        return Plain(*merged([linear for linear in linears if isinstance(linear, nn.Linear)]))
    if len(kept) < len(linears) or len({(linear.scheme, linear.block) for linear in kept}) > 1:
        return Plain(*dequantized(linears))
    codes, scales, bias = (_below_one_another(kept, part) for part in ("codes", "scales", "bias"))
    return Compressed(codes, scales, bias, kept[0].scheme, kept[0].block)


def dequantized(linears: Sequence[nn.Linear | CompressedLinear]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and biases of linears with one input, below one another, as floats; the linears stay as they are."""
    bias = torch.cat([linear.bias for linear in linears if linear.bias is not None])
    weights = [
        linear.kept.dequantize(bias.dtype) if isinstance(linear, CompressedLinear) else linear.weight
        for linear in linears
    ]
    return torch.cat(weights), bias


def _below_one_another(linears: Sequence[CompressedLinear], part: str) -> torch.Tensor:
    """A tensor of each of them in one; theirs become views of it."""
    tensors: list[torch.Tensor] = [getattr(linear, part).data for linear in linears]
    if len(tensors) == 1:
        return tensors[0]
    whole = torch.cat(tensors)
    for linear, view in zip(linears, whole.split([len(tensor) for tensor in tensors]), strict=True):
        setattr(linear, part, nn.Parameter(view, requires_grad=False))
    return whole

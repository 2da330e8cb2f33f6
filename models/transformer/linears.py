"""The products x Wᵀ + b of the transformer's blocks, in the weights' own precision or in float8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from models.transformer.fused import FLOAT8, FLOAT8_MAX, Quantized, Tokens, gelu_quantized, plain


class LinearProduct(Protocol):
    """x Wᵀ + b, whose bias is left to whatever comes next: what lies between products passes over the tokens anyway."""

    bias: torch.Tensor  # [out features]
    quantizes: bool  # whether it takes its tokens in float8

    def __call__(self, x: Tokens) -> torch.Tensor:
        """x Wᵀ: [M, in] to [M, out features]."""

    def gelu(self, x: Tokens) -> Tokens:
        """diffusers' gelu-approximate of x Wᵀ + b, as the product that follows takes it."""


@dataclass(frozen=True)
class Plain(LinearProduct):
    """A product in the precision of the weights."""

    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor  # [out]
    quantizes = False

    def __call__(self, x: Tokens) -> torch.Tensor:
        """See `LinearProduct`."""
        return torch.mm(plain(x), self.weight.t())

    def of_each(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x Wᵀ of several sequences, [B, N, in] to `out` [B, N, out features], wherever in memory each of them lies."""
        if x.is_cuda:
            torch.bmm(x, self.weight.t().expand(len(x), -1, -1), out=out)
        else:  # where the same call would copy the weights for every sequence
            out.copy_(x @ self.weight.t())

    def gelu(self, x: Tokens) -> Tokens:
        """See `LinearProduct`."""
        x = plain(x)
        if x.is_cuda:  # cuBLASLt's epilogue; on the CPU the same call computes the exact GELU
            return torch._addmm_activation(self.bias, x, self.weight.t(), use_gelu=True)
        return functional.gelu(torch.addmm(self.bias, x, self.weight.t()), approximate="tanh")


@dataclass(frozen=True)
class Float8(LinearProduct):
    """A product of float8_e4m3fn, each token and each output feature with a scale of its own.

    A scale for a whole tensor gave noise on a sister model; one for each row is as fast (one H200: 1,161 to 1,299
    TFLOP/s against 1,177 to 1,319).
    """

    weight: torch.Tensor  # float8_e4m3fn [out, in]
    scale: torch.Tensor  # float32 [1, out]
    bias: torch.Tensor  # [out], in the precision of the results
    quantizes = True

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor) -> Float8:
        """Quantize weights [out, in]."""
        rows = weight.float()
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / FLOAT8_MAX
        return cls((rows / scale).to(FLOAT8), scale.t().contiguous(), bias)

    def __call__(self, x: Tokens) -> torch.Tensor:
        """See `LinearProduct`; on the CPU the same numbers are multiplied in float32."""
        assert isinstance(x, Quantized)
        if not x.values.is_cuda:
            product = functional.linear(x.dequantize(), self.weight.float() * self.scale.t())
            return product.to(self.bias.dtype)
        return torch._scaled_mm(
            x.values,
            self.weight.t(),
            scale_a=x.scale,
            scale_b=self.scale,
            out_dtype=self.bias.dtype,
            use_fast_accum=True,
        )

    def gelu(self, x: Tokens) -> Tokens:
        """See `LinearProduct`."""
        return gelu_quantized(self(x), self.bias)


def merged(linears: Sequence[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and biases of linears with one input, below one another; the linears keep theirs as views of them."""
    if len(linears) == 1:
        return linears[0].weight, linears[0].bias
    weight = torch.cat([linear.weight.data for linear in linears])
    bias = torch.cat([linear.bias.data for linear in linears])
    start = 0
    for linear in linears:
        stop = start + linear.out_features
        linear.weight = nn.Parameter(weight[start:stop], requires_grad=False)
        linear.bias = nn.Parameter(bias[start:stop], requires_grad=False)
        start = stop
    return weight, bias

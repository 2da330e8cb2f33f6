"""What lies between the products of a double-stream block, each as one operation over tokens.

On CUDA they are Triton kernels (`models.kernels.transformer_kernels`) that read and write every token once; elsewhere
the same arithmetic in torch. All of it is in float32, rounded once to the precision of the tokens, where diffusers
rounds after every operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from models.kernels.triton_check import builds_kernels

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = torch.finfo(FLOAT8).max  # 448


@dataclass(frozen=True)
class Quantized:
    """Tokens in float8, each with a scale of its own."""

    values: torch.Tensor  # float8_e4m3fn [M, D]
    scale: torch.Tensor  # float32 [M, 1]

    def dequantize(self) -> torch.Tensor:
        """Return the tokens again, float32 [M, D]."""
        return self.values.float() * self.scale


Tokens = torch.Tensor | Quantized


@dataclass(frozen=True)
class Update:
    """What is added to the residual stream: gate · (x Wᵀ + bias)."""

    product: torch.Tensor  # x Wᵀ, [M, D]
    bias: torch.Tensor  # [D]
    gate: torch.Tensor  # [kinds, D], the same for every token of a kind; or [D] of all


def modulated_norm(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    eps: float,
    *,
    update: Update | None = None,
    kinds: torch.Tensor | None = None,
    quantize: bool = False,
) -> Tokens:
    """Layer norm without weights, then (1 + scale) · x + shift.

    Args:
        x: the residual stream [M, D]; an update is added to it first, in place.
        shift, scale: [kinds, D], the same for every token of a kind; or [D] of all.
        kinds: int32 [M], the kind of each token; None where there is one.
        quantize: give the result in float8.

    Returns:
        [M, D].
    """
    if _on_triton(x):
        from models.kernels import transformer_kernels

        out = new_tokens(x, len(x), quantize=quantize)
        added = (update.product, update.bias, update.gate) if update else None
        transformer_kernels.modulated_norm(x, added, shift, scale, eps, kinds, *_parts(out))
        return out
    if kinds is not None:
        shift, scale = shift[kinds], scale[kinds]
    if update is not None:
        gate = update.gate if kinds is None else update.gate[kinds]
        moved = x.float() + gate.float() * (update.product.float() + update.bias.float())
        x.copy_(moved.clamp(-65504, 65504) if x.dtype == torch.float16 else moved)
    normed = functional.layer_norm(x.float(), x.shape[-1:], eps=eps)
    modulated = normed * (1 + scale.float()) + shift.float()
    return _quantized(modulated) if quantize else modulated.to(x.dtype)


def rotated(
    qkv: torch.Tensor,
    bias: torch.Tensor,
    joint: torch.Tensor,
    query_weight: torch.Tensor,
    key_weight: torch.Tensor,
    eps: float,
    rotary: tuple[torch.Tensor, torch.Tensor],
    positions: torch.Tensor,
    places: torch.Tensor,
) -> None:
    """Add the bias, norm every query and key head (RMS) and turn them by their rotary embedding, for attention to read.

    Args:
        qkv: queries, keys and values of one stream without their bias [M, 3, heads, width].
        bias: [3 · heads · width].
        joint: those of both streams [joint tokens, 3, heads, width]; the rows at `places` are written.
        query_weight, key_weight: of the norms [width].
        rotary: cosines and sines, float32 [positions, width / 2], of neighbouring pairs of numbers.
        positions, places: int32 [M], of each token: its row in `rotary`, and in `joint`.
    """
    if _on_triton(qkv):
        from models.kernels import transformer_kernels

        transformer_kernels.rotated(qkv, bias, joint, query_weight, key_weight, eps, *rotary, positions, places)
        return
    whole = qkv.float() + bias.float().view(qkv.shape[1:])
    cos, sin = (table[positions][:, None] for table in rotary)  # [M, 1, width / 2]
    for part, weight in ((0, query_weight), (1, key_weight)):
        x = whole[:, part]
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()
        real, imaginary = x[..., ::2], x[..., 1::2]
        turned = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
        joint[places, part] = turned.flatten(-2).to(joint.dtype)
    joint[places, 2] = whole[:, 2].to(joint.dtype)


def gelu_quantized(product: torch.Tensor, bias: torch.Tensor) -> Quantized:
    """diffusers' gelu-approximate of product + bias, [M, D], in float8."""
    if _on_triton(product):
        from models.kernels import transformer_kernels

        rows = len(product)
        out = _new_quantized(product, rows)
        transformer_kernels.quantized(product, bias, out.values, out.scale, tokens=rows, length=rows, first=0)
        return out
    return _quantized(functional.gelu(product.float() + bias.float(), approximate="tanh"))


def cut_quantized(x: torch.Tensor, count: int, first: int, *, out: Quantized) -> None:
    """Give of `count` sequences of one length, end to end in x [M, D], the tokens from `first` on in float8."""
    length = len(x) // count
    if _on_triton(x):
        from models.kernels import transformer_kernels

        transformer_kernels.quantized(x, None, out.values, out.scale, tokens=length - first, length=length, first=first)
        return
    quantized = _quantized(x.view(count, length, -1)[:, first:].flatten(0, 1).float())
    out.values.copy_(quantized.values)
    out.scale.copy_(quantized.scale)


def new_tokens(like: torch.Tensor, count: int, *, quantize: bool) -> Tokens:
    """Room for tokens of the width of `like` [M, D], in its precision or in float8."""
    return _new_quantized(like, count) if quantize else like.new_empty(count, like.shape[1])


def plain(tokens: Tokens) -> torch.Tensor:
    """Tokens that weren't quantized."""
    assert isinstance(tokens, torch.Tensor)
    return tokens


def rows_of(tokens: Tokens, rows: torch.Tensor | slice) -> Tokens:
    """Some of the tokens."""
    if isinstance(tokens, Quantized):
        # Indexing float8 by a tensor is not implemented everywhere; its bytes are all that moves.
        return Quantized(tokens.values.view(torch.uint8)[rows].view(FLOAT8), tokens.scale[rows])
    return tokens[rows]


def _on_triton(x: torch.Tensor) -> bool:
    return x.is_cuda and builds_kernels()


def _new_quantized(like: torch.Tensor, count: int) -> Quantized:
    return Quantized(like.new_empty(count, like.shape[1], dtype=FLOAT8), like.new_empty(count, 1, dtype=torch.float32))


def _parts(tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor | None]:
    return (tokens.values, tokens.scale) if isinstance(tokens, Quantized) else (tokens, None)


def _quantized(values: torch.Tensor) -> Quantized:
    scale = values.abs().amax(-1, keepdim=True).clamp(min=1e-12) * (1 / FLOAT8_MAX)
    return Quantized((values * (1 / scale)).to(FLOAT8), scale)

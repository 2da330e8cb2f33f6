"""Triton kernels for the VAE: passes over activations, each of which reads its input and writes its output once.

Activations are [B, C, H, W] in channels-last memory, so a matrix of pixels by channels; a program takes several pixels
with all their channels. Arithmetic is in float32 whatever the precision of the tensors. Import this only where there is
Triton; `models.architectures.qwen_image.vae_operations` chooses between it and torch. Read in Triton 3.6 and 3.9.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # numbers a program holds at once: 32 a thread, four loads of 16 bytes in half precision
EPSILON = tl.constexpr(1e-24)  # of a mean of squares: keeps a black pixel from dividing by zero, and no more


def rms_norm(x: Tensor, gamma: Tensor, bias: Tensor | None, *, silu: bool) -> Tensor:
    """Norm `x` [B, C, H, W], after adding `bias` [C], over its channels and scale it by `gamma` [C]; then SiLU."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    _pass_over(x, _rms_norm, bias, gamma, out, HAS_BIAS=bias is not None, SILU=silu)
    return out


def add_(x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
    """Add `bias` [C] and `residual`, as large as `x`, to `x` [B, C, H, W], in place where it is channels-last."""
    x = x.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    _pass_over(x, _add, bias, residual, HAS_RESIDUAL=residual is not None)
    return x


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel of `x` [B, C, H, W] two by two times: [B, C, 2H, 2W]."""
    x = x.contiguous(memory_format=torch.channels_last)
    rows, channels, height, width = x.shape
    larger = (rows, channels, 2 * height, 2 * width)
    out = torch.empty(larger, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    _pass_over(x, _double, out, width)
    return out


def exponentials(scores: Tensor, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Softmax without its division: exp(scale · (score - the row's highest)), at most 1, and what to divide by.

    Args:
        scores: float32 [B, rows, N].
        scale: more than zero.

    Returns:
        exponentials [B, rows, N] in `dtype`, and their sums, float32 [B, rows, 1].
    """
    scores = scores.contiguous()
    out = torch.empty_like(scores, dtype=dtype)
    sums = scores.new_empty((*scores.shape[:2], 1))
    with torch.cuda.device_of(scores):
        _exponentials[(sums.numel(),)](
            scores, out, sums, scores.shape[2], scale, BLOCK=TILE, num_warps=8, enable_fp_fusion=True
        )
    return out, sums


def _pass_over(x: Tensor, kernel: Any, *more: Tensor | int | None, **flags: bool) -> None:
    """Run `kernel` on `x` [B, C, H, W], channels-last, and on `more`, so many pixels a program as make up a tile."""
    channels = x.shape[1]
    pixels, columns = x.numel() // channels, triton.next_power_of_2(channels)  # Triton's ranges are powers of two
    rows = max(1, TILE // columns)
    with torch.cuda.device_of(x):
        kernel[(triton.cdiv(pixels, rows),)](
            x, *more, pixels, C=channels, COLUMNS=columns, ROWS=rows, enable_fp_fusion=True, **flags
        )


# Pixels are counted in 32 bits, their numbers in 64: 22 pictures of 1024² with 96 channels have more than 2^31.


@triton.jit(do_not_specialize=["pixels"])
def _rms_norm(
    x,
    bias,
    gamma,
    out,
    pixels,
    HAS_BIAS: tl.constexpr,
    SILU: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, COLUMNS)[None, :]
    offsets = pixel.to(tl.int64) * C + channel
    mask = (pixel < pixels) & (channel < C)
    values = tl.load(x + offsets, mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        values += tl.load(bias + channel, channel < C, other=0.0).to(tl.float32)
    mean_square = tl.sum(values * values, 1)[:, None] / C
    # The sum keeps a NaN, which a maximum with epsilon would hide.
    normed = values * tl.rsqrt(mean_square + EPSILON) * tl.load(gamma + channel, channel < C, other=0.0).to(tl.float32)
    if SILU:
        normed *= tl.sigmoid(normed)
    tl.store(out + offsets, normed.to(out.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["pixels"])
def _add(
    x,
    bias,
    residual,
    pixels,
    HAS_RESIDUAL: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, COLUMNS)[None, :]
    offsets = pixel.to(tl.int64) * C + channel
    mask = (pixel < pixels) & (channel < C)
    values = tl.load(x + offsets, mask).to(tl.float32)
    values += tl.load(bias + channel, channel < C).to(tl.float32)
    if HAS_RESIDUAL:
        values += tl.load(residual + offsets, mask).to(tl.float32)
    tl.store(x + offsets, values.to(x.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["width", "pixels"])
def _double(x, out, width, pixels, C: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, COLUMNS)[None, :]
    mask = (pixel < pixels) & (channel < C)
    values = tl.load(x + pixel.to(tl.int64) * C + channel, mask)
    # Lines of all pictures are counted on: line l of the input becomes lines 2l and 2l + 1, each twice as wide.
    line, place = pixel // width, pixel % width
    corner = line.to(tl.int64) * 4 * width + 2 * place
    for down in tl.static_range(2):
        for right in tl.static_range(2):
            tl.store(out + (corner + down * 2 * width + right) * C + channel, values, mask)


@triton.jit
def _exponentials(scores, out, sums, count, scale, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    for start in range(0, count, BLOCK):
        place = start + column
        highest = tl.maximum(highest, tl.load(scores + row * count + place, place < count, other=float("-inf")))
    peak = tl.max(highest, 0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, count, BLOCK):
        place = start + column
        score = tl.load(scores + row * count + place, place < count, other=float("-inf"))
        exponential = tl.exp((score - peak) * scale)
        total += exponential
        tl.store(out + row * count + place, exponential.to(out.dtype.element_ty), place < count)
    tl.store(sums + row, tl.sum(total, 0))

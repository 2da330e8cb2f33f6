"""What the VAE does to a picture's activations, [B, C, H, W] in channels-last memory.

Nearly all of the VAE's arithmetic is in its convolutions, and cuDNN is quick at those; what costs besides is passing
over activations of up to a gigabyte. So each function here passes as seldom as it can: on CUDA, without gradients, by a
kernel of `models.kernels.vae_kernels`, elsewhere by torch. Both give the same values up to rounding.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from models.kernels.triton_check import builds_kernels

EPSILON = 1e-24  # of a mean of squares; a norm is exact far below the smallest activations
FLASH_WIDTH = 256  # the widest head that torch's flash kernels take (2.11 to 2.15)
SCORES = 2**27  # attention scores at once: half a GiB, which is less than decoding takes anyway


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    residual: Tensor | None = None,
) -> Tensor:
    """Convolve `x` [B, in, H, W] with `weight` [out, in, h, w], and add `bias` [out] and `residual`, if any.

    For cuDNN, torch adds a bias in a pass of its own; here the residual joins that pass.
    """
    if kernels := _kernels(x, weight, bias):
        added: Tensor = kernels.add_(functional.conv2d(x, weight, None, stride, padding), bias, residual)
        return added
    y = functional.conv2d(x, weight, bias, stride, padding)
    return y if residual is None else y.add_(residual)


def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Divide `x` [B, C, H, W] by the root of its mean square over the channels, and scale it by `gamma` [C].

    It is diffusers' `QwenImageRMS_norm`, which divides by the norm and multiplies by the root of C.
    """
    if kernels := _kernels(x, gamma):
        normed: Tensor = kernels.rms_norm(x, gamma, None, silu=False)
        return normed
    # Autocast would take the activations to float32; the norm calculates in float32 anyway.
    with torch.autocast(x.device.type, enabled=False):
        last = functional.rms_norm(x.movedim(1, -1), gamma.shape, gamma.to(x.dtype), EPSILON)
    return last.movedim(-1, 1)


def rms_norm_silu(x: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Tensor:
    """`rms_norm` of `x` [B, C, H, W], then SiLU; `bias` [C], which a convolution left to it, is added first."""
    if kernels := _kernels(x, gamma):
        normed: Tensor = kernels.rms_norm(x, gamma, bias, silu=True)
        return normed
    if bias is not None:
        x = x + bias.to(x.dtype).view(-1, 1, 1)
    return functional.silu(rms_norm(x, gamma))


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel of `x` [B, C, H, W] two by two times: [B, C, 2H, 2W]; exact in any precision."""
    if kernels := _kernels(x):
        larger: Tensor = kernels.doubled(x)
        return larger
    return functional.interpolate(x, scale_factor=2, mode="nearest-exact")


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with one head: each [B, N, C], and so is what it returns."""
    is_wide = query.shape[2] > FLASH_WIDTH and query.dtype != torch.float32
    if is_wide and (kernels := _kernels(query, key, value)):
        return _attend_by_products(kernels, query, key, value)
    query, key, value = (each.unsqueeze(1) for each in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).squeeze(1)


def _attend_by_products(kernels: ModuleType, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as two products with all scores in memory, some rows at a time.

    The VAE's head is 384 wide at full size, too wide for flash kernels, and the kernel that is left to torch is slow.
    Scores and sums are float32, as flash kernels keep them, so nothing is less precise than with those.
    """
    rows, tokens, width = query.shape
    attended = []
    for some in torch.split(query, max(1, SCORES // (rows * tokens)), 1):
        scores = torch.bmm(some, key.transpose(1, 2), out_dtype=torch.float32)
        weights, sums = kernels.exponentials(scores, width**-0.5, value.dtype)
        attended.append((torch.bmm(weights, value, out_dtype=torch.float32) / sums).to(value.dtype))
    return torch.cat(attended, 1)


def _kernels(*tensors: Tensor) -> ModuleType | None:
    """The Triton kernels, where they serve: for tensors on CUDA that need no gradients."""
    if not tensors[0].is_cuda or (torch.is_grad_enabled() and any(each.requires_grad for each in tensors)):
        return None
    if not builds_kernels():
        return None
    from models.kernels import vae_kernels

    return vae_kernels

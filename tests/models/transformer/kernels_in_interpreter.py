"""Run by test_fused.py with TRITON_INTERPRET=1: every fused operation by Triton's interpreter and by torch."""

from collections.abc import Callable
from typing import Any

import torch

from models.transformer import fused


def by_both(operation: Callable[..., Any], *tensors: torch.Tensor) -> list[tuple[Any, list[torch.Tensor]]]:
    """What an operation returns, and what it leaves of its arguments: by torch, then by Triton."""
    ended = []
    for on_triton in (False, True):
        fused._on_triton = lambda _, answer=on_triton: answer  # type: ignore[assignment]
        copies = [tensor.clone() for tensor in tensors]
        ended.append((operation(*copies), copies))
    return ended


def near(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(other.float(), one.float(), rtol=2 * torch.finfo(dtype).eps, atol=2e-6)


def same(ended: list[tuple[Any, list[torch.Tensor]]], dtype: torch.dtype) -> None:
    (one, arguments), (other, changed) = ended
    if isinstance(one, fused.Quantized):
        torch.testing.assert_close(other.scale, one.scale)
        expected, found = one.values.float(), other.values.float()
        # Triton 3.9's interpreter loses the carry of what rounds up to a power of two, cuts off subnormals, and rounds
        # what lies half way between two numbers up instead of to the even one.
        carried = torch.frexp(expected).mantissa.abs() == 0.5
        subnormal = expected.abs() <= 2**-6 * 1.125
        assert ((found - expected).abs() <= 2**-9)[subnormal & ~carried].all()
        normal = ~subnormal & ~carried
        half_way = normal & (found != expected)
        assert ((found - expected).abs() <= expected.abs() / 8)[half_way].all()
        assert half_way.float().mean() < 0.01
        assert (carried | subnormal).float().mean() < 0.4
    elif one is not None:
        near(one, other, dtype)
    for before, after in zip(arguments, changed, strict=True):
        near(before, after, dtype)


def norms(width: int, dtype: torch.dtype) -> None:
    x, product = torch.randn(7, width).to(dtype), torch.randn(7, width).to(dtype)
    bias, gate, shift, scale = (torch.randn(width).to(dtype) for _ in range(4))
    for quantize in (False, True):

        def updated(x: torch.Tensor, product: torch.Tensor, quantize: bool = quantize) -> fused.Tokens:
            update = fused.Update(product, bias, gate)
            return fused.modulated_norm(x, shift, scale, 1e-6, update=update, quantize=quantize)

        same(by_both(updated, x, product), dtype)
        same(by_both(lambda a, q=quantize: fused.modulated_norm(a, shift, scale, 1e-6, quantize=q), x), dtype)


def norms_of_two_kinds(width: int, dtype: torch.dtype) -> None:
    x, product, bias = torch.randn(7, width).to(dtype), torch.randn(7, width).to(dtype), torch.randn(width).to(dtype)
    gates, shifts, scales = torch.randn(3, 4, 3, width).to(dtype)[:, ::2, 1]  # rows that lie apart
    kinds = torch.tensor([0, 0, 1, 0, 1, 1, 0]).int()
    for shift, scale in ((shifts, scales), (shifts[:1].expand(2, -1), scales[:1].expand(2, -1))):

        def updated(x: torch.Tensor, product: torch.Tensor, said: Any = (shift, scale)) -> fused.Tokens:
            return fused.modulated_norm(x, *said, 1e-6, update=fused.Update(product, bias, gates), kinds=kinds)

        same(by_both(updated, x, product), dtype)
        same(by_both(lambda a, said=(shift, scale): fused.modulated_norm(a, *said, 1e-6, kinds=kinds), x), dtype)


def cuts(width: int, dtype: torch.dtype) -> None:
    def cut(x: torch.Tensor) -> fused.Tokens:
        out = fused.new_tokens(x, 9, quantize=True)
        assert isinstance(out, fused.Quantized)
        fused.cut_quantized(x, 3, 1, out=out)
        return out

    same(by_both(cut, torch.randn(12, width).to(dtype)), dtype)
    bias = torch.randn(width).to(dtype)
    same(by_both(lambda product: fused.gelu_quantized(product, bias), 4 * torch.randn(7, width).to(dtype)), dtype)


def rotations(heads: int, width: int, dtype: torch.dtype) -> None:
    qkv, joint = torch.randn(5, 3, heads, width).to(dtype), torch.randn(9, 3, heads, width).to(dtype)
    bias, angles = torch.randn(3 * heads * width).to(dtype), 6 * torch.rand(6, width // 2)
    positions, places = torch.tensor([0, 2, 5, 1, 3]).int(), torch.tensor([8, 1, 2, 3, 0]).int()
    weights = torch.randn(width).to(dtype), torch.randn(width).to(dtype)

    def rotate(qkv: torch.Tensor, joint: torch.Tensor) -> None:
        fused.rotated(qkv, bias, joint, *weights, 1e-6, (angles.cos(), angles.sin()), positions, places)

    same(by_both(rotate, qkv, joint), dtype)


if __name__ == "__main__":
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float16):  # the interpreter rounds bfloat16 in its own way
        for width in (96, 80):  # three times a power of two, and not
            norms(width, dtype)
            norms_of_two_kinds(width, dtype)
            cuts(width, dtype)
        for heads, width in ((4, 16), (6, 48), (24, 128)):  # neither need be a power of two
            rotations(heads, width, dtype)

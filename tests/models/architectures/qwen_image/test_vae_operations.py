"""The VAE's kernels, run by Triton's interpreter, give what torch gives."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from torch.nn import functional

from models.architectures.qwen_image import vae_operations
from models.architectures.qwen_image.single_frame import single_frame
from models.architectures.qwen_image.vae_operations import attend, doubled, rms_norm, rms_norm_silu
from models.kernels.triton_check import builds_kernels

vae_kernels = pytest.importorskip("models.kernels.vae_kernels", reason="there is no Triton here", exc_type=ImportError)

PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]
WIDTHS = [96, 3, 24, 128]  # channels: what isn't a power of two, what isn't a multiple of anything, what is
Interpret = Callable[..., Any]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def interpret() -> Iterator[Interpret]:
    """Run a function in a process that interprets kernels: Triton decides so as it is imported."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            yield lambda function, *given, **named: process.submit(function, *given, **named).result()


def activations(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (3 * torch.randn(shape)).to(dtype).contiguous(memory_format=torch.channels_last)


def assert_same(one: Tensor, other: Tensor) -> None:
    """Up to a rounding: twice, since torch rounds between the steps of what a kernel does at once."""
    rounding = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}[one.dtype]
    assert one.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(one, other, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("channels", WIDTHS)
def test_the_norm_kernel_adds_a_bias_and_norms_and_activates_in_one_pass(
    interpret: Interpret, channels: int, dtype: torch.dtype
) -> None:
    x, gamma, bias = activations(2, channels, 5, 7, dtype=dtype), *torch.randn(2, channels).to(dtype)
    assert_same(interpret(vae_kernels.rms_norm, x, gamma, None, silu=False), rms_norm(x, gamma))
    assert_same(interpret(vae_kernels.rms_norm, x, gamma, None, silu=True), rms_norm_silu(x, gamma))
    assert_same(interpret(vae_kernels.rms_norm, x, gamma, bias, silu=True), rms_norm_silu(x, gamma, bias))


def test_the_norm_kernel_keeps_black_pixels_black_and_nan_what_it_is(interpret: Interpret) -> None:
    x = activations(1, 24, 2, 2)
    x[0, :, 0, 0] = 0
    x[0, 3, 1, 1] = torch.nan
    normed = interpret(vae_kernels.rms_norm, x, torch.ones(24), None, silu=True)
    assert torch.equal(normed[0, :, 0, 0], torch.zeros(24))
    assert normed[0, :, 1, 1].isnan().all()
    assert normed[0, :, 0, 1].isfinite().all()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("channels", WIDTHS)
def test_the_adding_kernel_adds_bias_and_residual_in_one_pass(
    interpret: Interpret, channels: int, dtype: torch.dtype
) -> None:
    x, residual = (activations(2, channels, 3, 9, dtype=dtype) for _ in range(2))
    bias = torch.randn(channels).to(dtype)
    with_bias = x.float() + bias.float().view(-1, 1, 1)
    with_both = with_bias + residual.float()
    assert_same(interpret(vae_kernels.add_, x.clone(), bias, None), with_bias.to(dtype))
    assert_same(interpret(vae_kernels.add_, x.clone(), bias, residual), with_both.to(dtype))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("channels", WIDTHS)
def test_doubling_is_exact_in_any_precision(interpret: Interpret, channels: int, dtype: torch.dtype) -> None:
    x = activations(2, channels, 5, 37, dtype=dtype)
    stock = functional.interpolate(x.float(), scale_factor=(2.0, 2.0), mode="nearest-exact").to(dtype)
    assert torch.equal(doubled(x), stock)
    assert torch.equal(interpret(vae_kernels.doubled, x), stock)


@pytest.mark.parametrize("tokens", [16, 100, 5000])  # of a row: less and more than a program reads at once
def test_exponentials_over_their_sums_are_a_softmax(interpret: Interpret, tokens: int) -> None:
    scores = 50 * torch.randn(2, 3, tokens)
    exponentials, sums = interpret(vae_kernels.exponentials, scores, 0.25, torch.float32)
    assert exponentials.amax(2).equal(torch.ones(2, 3))
    torch.testing.assert_close(exponentials / sums, torch.softmax(scores / 4, 2), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_wide_heads_attend_as_precisely_by_products_of_some_rows_at_a_time(
    interpret: Interpret, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, apart: float
) -> None:
    monkeypatch.setattr(vae_operations, "SCORES", 2 * 7 * 40)  # seven rows at a time, and the last time fewer
    monkeypatch.setattr(torch, "bmm", _product)
    kernels = SimpleNamespace(exponentials=lambda *given: interpret(vae_kernels.exponentials, *given))
    query, key, value = torch.randn(2, 40, 3 * 384).mul(2).to(dtype).chunk(3, 2)
    attended = vae_operations._attend_by_products(kernels, query, key, value)
    assert attended.dtype == dtype
    torch.testing.assert_close(
        attended.float(), attend(query.float(), key.float(), value.float()), rtol=apart, atol=apart
    )


@pytest.mark.parametrize("channels", [3, 4])
def test_a_vae_on_kernels_gives_stocks_pictures(
    interpret: Interpret, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    vae = AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1, input_channels=channels).eval().requires_grad_(False)
    for name, parameter in vae.named_parameters():
        if name.endswith("gamma"):
            parameter.normal_(1, 0.2)
    pictures, latents = torch.rand(1, channels, 1, 32, 40) * 2 - 1, torch.randn(1, 16, 1, 4, 5)
    encoded, decoded = vae.encode(pictures).latent_dist.mode(), vae.decode(latents).sample
    used = []

    def run(name: str) -> Callable[..., Tensor]:
        def kernel(*given: Any, **named: Any) -> Tensor:
            used.append(name)
            return interpret(getattr(vae_kernels, name), *given, **named)

        return kernel

    kernels = SimpleNamespace(**{name: run(name) for name in ("rms_norm", "add_", "doubled")})
    monkeypatch.setattr(vae_operations, "_kernels", lambda *_: kernels)
    single_frame(vae)
    torch.testing.assert_close(vae.encode(pictures).latent_dist.mode(), encoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(latents).sample, decoded, rtol=1e-4, atol=1e-5)
    assert set(used) == {"rms_norm", "add_", "doubled"}


def test_where_triton_cant_build_kernels_torch_does_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(_: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(vae_kernels, "doubled", no_compiler)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: torch.empty(shape, device=device.replace("cuda", "cpu")))
    with caplog.at_level(logging.WARNING):
        assert builds_kernels.__wrapped__() is False
    assert "without its Triton kernels" in caplog.text
    assert "C compiler" in caplog.text


def _product(one: Tensor, other: Tensor, out_dtype: torch.dtype) -> Tensor:
    """`torch.bmm`, whose `out_dtype` is for CUDA alone."""
    return one.to(out_dtype) @ other.to(out_dtype)

"""The Triton kernels against the same operations in torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.transformer import fused

pytest.importorskip("triton", reason="Triton comes with torch's builds for CUDA only")

KERNELS = Path(__file__).with_name("kernels_in_interpreter.py")


def test_kernels_compute_what_torch_computes() -> None:
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    ended = subprocess.run(
        [sys.executable, str(KERNELS)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(fused.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert ended.returncode == 0, ended.stderr


def test_float8_keeps_every_token_within_a_sixteenth() -> None:
    x = torch.randn(50, 96) * torch.logspace(-6, 6, 50)[:, None]
    shift, scale = torch.zeros(96), torch.zeros(96)

    quantized = fused.modulated_norm(x, shift, scale, 1e-6, quantize=True)

    assert isinstance(quantized, fused.Quantized)
    exact = fused.plain(fused.modulated_norm(x, shift, scale, 1e-6))
    assert ((quantized.dequantize() - exact).abs() <= exact.abs() / 16 + exact.abs().amax(1, keepdim=True) / 1000).all()


def test_tokens_of_nothing_stay_nothing_in_float8() -> None:
    quantized = fused.gelu_quantized(torch.zeros(2, 32), torch.zeros(32))

    assert torch.equal(quantized.dequantize(), torch.zeros(2, 32))


def test_float16_is_clipped_where_it_would_overflow() -> None:
    x, update = torch.full((1, 32), 6e4, dtype=torch.float16), torch.full((1, 32), 6e4, dtype=torch.float16)
    one, nothing = torch.ones(32, dtype=torch.float16), torch.zeros(32, dtype=torch.float16)

    fused.modulated_norm(x, one, one, 1e-6, update=fused.Update(update, nothing, one))

    assert torch.equal(x, torch.full((1, 32), 65504.0, dtype=torch.float16))

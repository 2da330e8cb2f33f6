"""What a job's device and precision stand for, and which are refused."""

import pytest
import torch

from models.checkpoints.checkpoint import CheckpointError
from models.devices.device import Gpu, choose_precision, find_device, find_precision

PASCAL = Gpu("NVIDIA GeForce GTX 1080", (6, 1))
TURING = Gpu("Tesla T4", (7, 5))
AMPERE = Gpu("NVIDIA A100-SXM4-80GB", (8, 0))
ADA = Gpu("NVIDIA L40S", (8, 9))
HOPPER = Gpu("NVIDIA H100 80GB HBM3", (9, 0))
BLACKWELL = Gpu("NVIDIA B200", (10, 0))


def test_auto_is_bfloat16_on_a_gpu_and_float32_on_the_cpu() -> None:
    assert choose_precision("auto", AMPERE) == torch.bfloat16
    assert choose_precision("auto", None) == torch.float32
    assert find_precision("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "float8"])
def test_a_cpu_computes_in_every_precision(precision: str) -> None:
    assert find_precision(precision, torch.device("cpu")).is_floating_point


@pytest.mark.parametrize(
    ("precision", "gpus"),
    [
        ("float32", [PASCAL, TURING, HOPPER]),
        ("float16", [PASCAL, TURING, HOPPER]),
        ("bfloat16", [AMPERE, ADA, HOPPER, BLACKWELL]),
        ("float8", [ADA, HOPPER, BLACKWELL]),
    ],
)
def test_a_gpu_is_given_the_precisions_that_it_multiplies_in(precision: str, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        assert choose_precision(precision, gpu).is_floating_point


@pytest.mark.parametrize(
    ("precision", "gpu", "sentence"),
    [
        ("bfloat16", TURING, r"is bfloat16, and Tesla T4 \(compute capability 7.5\) .* in bfloat16; use float16\.$"),
        ("auto", TURING, r"is auto, which is bfloat16, and Tesla T4 .* in bfloat16; use float16\.$"),
        ("float8", TURING, r"is float8, and Tesla T4 .* in float8; use float16\.$"),
        ("float8", AMPERE, r"is float8, and NVIDIA A100-SXM4-80GB .* in float8; use bfloat16\.$"),
        (
            "float4",
            HOPPER,
            r"float4 is unknown; use auto or one of float32, bfloat16, float16, float8, int8, nf4, .*\.$",
        ),
    ],
)
def test_a_precision_that_a_gpu_lacks_is_refused_with_the_one_to_use(precision: str, gpu: Gpu, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        choose_precision(precision, gpu)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "mps", "cpu:1", ""])
def test_a_device_of_another_kind_is_refused_with_a_sentence(device: str) -> None:
    with pytest.raises(CheckpointError, match="There is no device"):
        find_device(device)


def test_a_gpu_that_isnt_there_is_refused_with_a_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"The device is cuda:99, but "):
        find_device("cuda:99")

"""Trials of kernels, and what they mean."""

import pytest
import torch

from models.devices.attention import Attention
from models.doctor.kernel_trials import AttentionFacts, check_attention, judge_attention, judge_triton, try_attention
from models.finding import Status

FLOAT32 = {"cudnn": "No float32.", "flash": "No float32.", "efficient": None, "math": None}


def facts(**problems: str | None) -> AttentionFacts:
    return AttentionFacts("bfloat16", dict.fromkeys(("cudnn", "flash", "efficient", "math")) | problems)


def test_kernels_are_tried_and_those_that_a_device_lacks_say_so() -> None:
    tried = try_attention(torch.device("cpu"), torch.float32)
    assert tried.dtype == "float32"
    assert list(tried.problems) == ["cudnn", "flash", "efficient", "math"]
    assert tried.problems["math"] is None
    assert tried.problems["cudnn"]  # there is none for a CPU


@pytest.mark.parametrize(
    ("problems", "wanted", "status", "said"),
    [
        ({}, "auto", "ok", "these kernels run: cuDNN's, flash, efficient and math."),
        ({}, "flash", "ok", ""),
        (FLOAT32, "auto", "ok", "these kernels run: efficient and math."),
        (FLOAT32, "cudnn", "warning", "The job names cuDNN's, which doesn't run in bfloat16: No float32."),
        ({**FLOAT32, "efficient": "No."}, "auto", "warning", "one kernel runs: math. It is slow"),
        (dict.fromkeys(FLOAT32, "No kernel image."), "auto", "failed", "No kernel runs in bfloat16: No kernel image."),
    ],
)
def test_a_fast_kernel_and_the_one_that_is_named_are_wanted(
    problems: dict[str, str | None], wanted: Attention, status: Status, said: str
) -> None:
    finding = judge_attention(facts(**problems), wanted)
    assert finding.status == status
    assert said in finding.found


@pytest.mark.parametrize(
    ("problem", "do"),
    [
        ("No module named 'triton'", "Install triton"),
        ("Failed to find C compiler. Please specify via CC environment variable", "Install a C compiler"),
        ("Command '['/usr/bin/gcc', '-O3']' returned non-zero exit status 1.", "python3-dev"),
        ("PassManager::run failed", "make install"),
    ],
)
def test_without_triton_the_model_is_slower_and_the_cause_has_its_own_remedy(problem: str, do: str) -> None:
    finding = judge_triton(problem)
    assert finding.status == "warning"
    assert do in (finding.do or "")
    assert judge_triton(None).status == "ok"


def test_on_a_cpu_there_is_nothing_to_choose() -> None:
    assert check_attention("cpu", "auto", "auto") == []

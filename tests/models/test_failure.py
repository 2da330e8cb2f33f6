"""Whose fault an exception is, where torch says it in a sentence alone."""

import pytest
import torch

from models.failure import blame
from models.lost_device import DeviceLost


def test_memory_that_the_cpu_does_not_have_is_told_by_what_torch_says() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert type(error.value) is RuntimeError
    assert blame(error.value) == "out_of_memory"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory"),
        (torch.AcceleratorError("CUDA error: out of memory", 2), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (RuntimeError("The size of tensor a (3) must match."), "internal"),
    ],
)
def test_short_memory_is_told_from_other_faults(error: Exception, cause: str) -> None:
    assert blame(error) == cause


def test_a_device_that_is_lost_is_no_cause_of_a_row() -> None:
    with pytest.raises(DeviceLost, match="misaligned address"):
        blame(torch.AcceleratorError("CUDA error: misaligned address", 716))

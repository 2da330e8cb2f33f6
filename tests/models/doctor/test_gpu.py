"""What facts about a GPU mean."""

from dataclasses import replace

import pytest

from models.devices.device import Gpu
from models.doctor.gpu import GpuFacts, check_gpu, check_precision, judge_gpu, judge_gpu_memory, judge_precision
from models.units import GIB

BUILT = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
H100 = GpuFacts("cuda:0", Gpu("NVIDIA H100 80GB HBM3", (9, 0)), 1, BUILT, 78 * GIB, 79 * GIB)


def named(capability: tuple[int, int]) -> GpuFacts:
    return replace(H100, gpu=Gpu("NVIDIA X", capability))


def test_a_gpu_is_named_with_its_place_among_others() -> None:
    assert judge_gpu(H100).found == "NVIDIA H100 80GB HBM3 (cuda:0) has compute capability 9.0."
    assert "(cuda:0 of 8)" in judge_gpu(replace(H100, count=8)).found


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 7), (8, 9), (9, 0), (10, 3), (12, 1)])
def test_kernels_run_on_their_own_major_version_from_their_minor_version_on(capability: tuple[int, int]) -> None:
    assert judge_gpu(named(capability)).status == "ok"


@pytest.mark.parametrize("capability", [(6, 1), (7, 0), (11, 0), (13, 0)])
def test_a_gpu_that_torch_has_no_kernels_for_fails(capability: tuple[int, int]) -> None:
    finding = judge_gpu(named(capability))
    assert (finding.status, finding.fault) == ("failed", "reach")
    assert "sm_75, sm_80" in finding.found


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ("compute_80", (13, 0), True),
        ("compute_80", (7, 5), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("gfx942", (9, 4), False),
    ],
)
def test_kernels_that_are_compiled_again_run_on_newer_gpus_and_special_ones_on_their_own(
    built: str, capability: tuple[int, int], runs: bool
) -> None:
    assert (judge_gpu(replace(named(capability), architectures=(built,))).status == "ok") is runs


def test_memory_that_others_have_taken_is_warned_of() -> None:
    assert judge_gpu_memory(H100).found == "78.0 of 79.0 GiB are free."
    assert judge_gpu_memory(H100).status == "ok"
    assert judge_gpu_memory(replace(H100, free=40 * GIB)).status == "warning"


def test_a_precision_that_the_gpu_lacks_is_a_wrong_request_with_the_one_to_use() -> None:
    finding = judge_precision("float8", Gpu("NVIDIA A100", (8, 0)))
    assert (finding.status, finding.fault) == ("failed", "request")
    assert finding.found.endswith("can't multiply in float8.")
    assert finding.do == "Use bfloat16."


def test_what_auto_stands_for_is_said() -> None:
    assert judge_precision("auto", H100.gpu).found == "Auto is bfloat16 on NVIDIA H100 80GB HBM3."
    assert judge_precision("auto", None).found == "Auto is float32 on the CPU."
    assert judge_precision("float16", None).status == "ok"
    assert judge_precision("float8", None).status == "warning"


def test_of_a_job_on_the_cpu_there_is_no_gpu_to_look_at() -> None:
    assert check_gpu("cpu") == []
    assert [finding.status for finding in check_precision("cpu", "auto")] == ["ok"]


def test_a_device_that_cant_be_is_a_wrong_request() -> None:
    (finding,) = check_gpu("gpu")
    assert (finding.name, finding.status, finding.fault) == ("device", "failed", "request")
    assert finding.do == "Use auto, cpu, cuda, or one GPU of several as cuda:1."
    assert check_precision("gpu", "auto") == []

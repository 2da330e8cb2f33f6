"""What facts about torch and the driver mean."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.doctor import driver
from models.doctor.driver import DriverFacts, judge_driver, judge_torch, read_driver

WORKS = DriverFacts(
    torch="2.15.0+cu132",
    built_for=(13, 2),
    starts=True,
    version="580.95.05",
    supports=(13, 0),
    nvml="answers",
    given=1,
    on_bus=1,
    is_loaded=True,
)
IDLE = replace(WORKS, starts=False, problem="CUDA unknown error")
UNGIVEN = replace(IDLE, version=None, supports=None, given=None, problem="Found no NVIDIA driver on your system.")
NO_GPU = DriverFacts("2.15.0+cu132", (13, 2), starts=False, problem="Found no NVIDIA driver", nvml="no library")
CPU_ONLY = replace(IDLE, torch="2.15.0+cpu", built_for=None, problem="Torch not compiled with CUDA enabled")


def test_a_driver_of_an_older_minor_version_works() -> None:
    finding = judge_driver(WORKS, "auto", wants_gpu=True)
    assert finding.status == "ok"
    assert finding.found == "The driver 580.95.05 supports CUDA 13.0 and works with torch's CUDA 13.2."
    assert judge_torch(WORKS, "auto").found == "Version 2.15.0+cu132 is built for CUDA 13.2."


def test_without_nvml_a_driver_that_works_is_ok_all_the_same() -> None:
    finding = judge_driver(replace(WORKS, nvml="not installed", version=None, supports=None), "auto", wants_gpu=True)
    assert (finding.status, "nvidia-ml-py" in finding.found) == ("ok", True)


@pytest.mark.parametrize(
    ("facts", "found", "do"),
    [
        (
            replace(IDLE, version="550.54.15", supports=(12, 4)),
            "The driver 550.54.15 supports CUDA up to 12.4, and torch is built for CUDA 13.2.",
            "Install NVIDIA's driver 580 or newer, or install a torch built for CUDA 12.",
        ),
        (
            replace(
                IDLE,
                nvml="not installed",
                version=None,
                supports=None,
                given=None,
                problem="The NVIDIA driver on your system is too old (found version 12040). Please update.",
            ),
            "The driver is too old, and torch is built for CUDA 13.2.",
            "Install NVIDIA's driver 580 or newer.",
        ),
        (replace(IDLE, visible=""), "CUDA_VISIBLE_DEVICES is '', which hides every GPU", "Unset it"),
        (replace(IDLE, visible="-1"), "CUDA_VISIBLE_DEVICES is '-1'", "nvidia-smi -L"),
        (replace(IDLE, visible="1,0"), "CUDA_VISIBLE_DEVICES is '1,0'", "Unset it"),
        (replace(UNGIVEN, nvml="mismatch"), "was updated while it was loaded", "Restart the machine"),
        (replace(UNGIVEN, nvml="no library"), "this container was given neither", "--gpus all"),
        (replace(UNGIVEN, nvml="not installed"), "this container was given neither", "--gpus all"),
        (replace(IDLE, given=0, problem="No CUDA GPUs are available"), "was given neither", "--gpus all"),
        (replace(UNGIVEN, nvml="not loaded", is_loaded=False), "its kernel module isn't loaded", "modprobe nvidia"),
        (replace(UNGIVEN, nvml="no library", is_loaded=False), "but no driver for it", "driver 580 or newer"),
        (replace(IDLE, problem="Error 802: system not yet initialized"), "Fabric Manager", "nvidia-fabricmanager"),
        (IDLE, "driver 580.95.05, but CUDA doesn't start: CUDA unknown error.", "nvidia-smi"),
        (replace(IDLE, visible="0"), "CUDA doesn't start", "dmesg"),
        (replace(IDLE, visible="GPU-8a56a4bc"), "CUDA doesn't start", "dmesg"),
    ],
)
def test_every_cause_of_an_idle_gpu_has_its_own_sentence(facts: DriverFacts, found: str, do: str) -> None:
    for device in ("auto", "cuda"):
        finding = judge_driver(facts, device, wants_gpu=False)
        assert (finding.status, finding.fault) == ("failed", "reach")
        assert found in finding.found
        assert finding.do is not None
        assert do in finding.do
        assert judge_torch(facts, device).status == "ok"


def test_a_torch_for_the_cpu_alone_is_to_blame_where_there_is_a_gpu() -> None:
    finding = judge_torch(CPU_ONLY, "auto")
    assert (finding.status, finding.fault) == ("failed", "reach")
    assert "the NVIDIA GPU of this machine isn't used" in finding.found
    assert judge_driver(CPU_ONLY, "auto", wants_gpu=True).status == "ok"


def test_a_torch_for_the_cpu_alone_will_do_where_there_is_no_gpu_or_none_is_wanted() -> None:
    without = replace(NO_GPU, torch="2.15.0+cpu", built_for=None)
    assert judge_torch(without, "auto").status == "ok"
    assert judge_torch(CPU_ONLY, "cpu").status == "ok"
    assert judge_torch(without, "cuda").status == "failed"


def test_without_a_gpu_small_models_run_on_the_cpu_and_large_ones_are_warned_of() -> None:
    assert judge_driver(NO_GPU, "auto", wants_gpu=False).status == "left out"
    assert judge_driver(NO_GPU, "auto", wants_gpu=True).status == "warning"


def test_a_gpu_that_is_asked_for_where_there_is_none_is_a_wrong_request() -> None:
    finding = judge_driver(NO_GPU, "cuda:1", wants_gpu=False)
    assert (finding.status, finding.fault) == ("failed", "request")


def test_no_driver_is_asked_for_a_job_on_the_cpu() -> None:
    assert judge_driver(IDLE, "cpu", wants_gpu=True).status == "left out"


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95  Release Build\n", "580.95"),
    ],
)
def test_what_the_kernel_shows_of_a_gpu_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, version: str
) -> None:
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000"), ("0x10de", "0x030000")]
    ):
        device = tmp_path / "pci" / str(number)
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    (tmp_path / "module").write_text(module)
    monkeypatch.setattr(driver, "PCI", tmp_path / "pci")
    monkeypatch.setattr(driver, "KERNEL_MODULE", tmp_path / "module")
    monkeypatch.setattr(driver, "_ask_nvml", lambda: ("not installed", None, None, None))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    facts = read_driver.__wrapped__()

    assert (facts.on_bus, facts.version, facts.is_loaded, facts.visible) == (2, version, True, "")


def test_reading_a_machine_without_a_driver_names_what_torch_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "PCI", tmp_path / "none")
    monkeypatch.setattr(driver, "KERNEL_MODULE", tmp_path / "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    facts = read_driver.__wrapped__()

    assert facts.starts != bool(facts.problem)
    assert (facts.on_bus, facts.is_loaded) == (0, False)

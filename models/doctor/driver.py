"""Whether torch can use the GPUs of this machine, and if not, why: the driver against the CUDA that torch is built for.

What there is to know is read into `DriverFacts`; what it means is decided by functions of these facts alone.
"""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from models.devices.device import dotted
from models.failure import first_line
from models.finding import Finding

Nvml = Literal["answers", "not installed", "no library", "not loaded", "mismatch", "fails"]
"""What NVML, the driver's own library of facts, does when it is asked; nvidia-ml-py is what asks it."""

PCI, KERNEL_MODULE = Path("/sys/bus/pci/devices"), Path("/proc/driver/nvidia/version")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI ids of the vendor, and of the class of all GPUs
# The oldest Linux driver for each major version of CUDA, by which minor versions don't matter.
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = {11: "450", 12: "525", 13: "580"}
INSTALL_TORCH = "Install a torch that is built for CUDA, such as the one in requirements.lock: `make install`."


@dataclass(frozen=True)
class DriverFacts:
    """What torch and the driver say of themselves and of each other."""

    torch: str  # its version
    built_for: tuple[int, int] | None  # the CUDA that torch is built for; None if for the CPU alone
    starts: bool  # torch has found a GPU that it can use
    problem: str = ""  # what torch says if it hasn't
    version: str | None = None  # of the driver
    supports: tuple[int, int] | None = None  # the newest CUDA that the driver runs
    nvml: Nvml = "not installed"
    given: int | None = None  # GPUs that NVML lets this process see
    on_bus: int = 0  # NVIDIA GPUs on the PCI bus, which containers see, too
    is_loaded: bool = False  # the driver's kernel module, which containers see, too
    visible: str | None = None  # CUDA_VISIBLE_DEVICES

    @property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU in this machine, usable or not."""
        return self.starts or bool(self.given or self.on_bus)


@cache
def read_driver() -> DriverFacts:
    """Ask torch, NVML and the kernel."""
    nvml, version, supports, given = _ask_nvml()
    starts, problem = _try_cuda()
    module = ""
    with suppress(OSError):
        module = KERNEL_MODULE.read_text()
    of_module = re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+\.[\d.]+)", module)
    built_for = torch.version.cuda
    return DriverFacts(
        torch=str(torch.__version__),
        built_for=_version(built_for) if built_for else None,
        starts=starts,
        problem=problem,
        version=version or (of_module[1] if of_module else None),
        supports=supports,
        nvml=nvml,
        given=given,
        on_bus=_count_on_bus(),
        is_loaded=bool(module),
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def check_torch(device: str) -> list[Finding]:
    """See `judge_torch`."""
    return [judge_torch(read_driver(), device)]


def check_driver(device: str, *, wants_gpu: bool) -> list[Finding]:
    """See `judge_driver`."""
    return [judge_driver(read_driver(), device, wants_gpu=wants_gpu)]


def judge_torch(facts: DriverFacts, device: str) -> Finding:
    """Say whether torch is built for the device that a job names."""
    name = f"Version {facts.torch}"
    if facts.built_for:
        return Finding.ok("torch", f"{name} is built for CUDA {dotted(facts.built_for)}.")
    if device == "cpu" or not (device.startswith("cuda") or facts.has_gpu):
        return Finding.ok("torch", f"{name} is built for the CPU alone.")
    idle = "the NVIDIA GPU of this machine isn't used" if facts.has_gpu else "no GPU can be used"
    return Finding.failed("torch", f"{name} is built for the CPU alone, so {idle}.", INSTALL_TORCH)


def judge_driver(facts: DriverFacts, device: str, *, wants_gpu: bool) -> Finding:
    """Say whether the driver and torch's CUDA go together.

    Args:
        facts: what `read_driver` found.
        device: what a job names: `auto`, `cpu`, `cuda` or `cuda:1`.
        wants_gpu: the job's model is too large for a CPU to be of use.
    """
    if device == "cpu":
        return Finding.left_out("driver", "The device is the CPU, so no driver is asked.")
    if facts.starts:
        return Finding.ok("driver", _works(facts))
    if not facts.has_gpu:
        found = "There is no NVIDIA GPU in this machine"
        if device.startswith("cuda"):
            return Finding.failed(
                "driver", f"{found}, but the device is {device}.", "Use the device auto or cpu.", "request"
            )
        if wants_gpu:
            return Finding.warning(
                "driver",
                f"{found}, and on a CPU a model of this size takes very long.",
                "Use a machine with an NVIDIA GPU, or the model miniature to try things out.",
            )
        return Finding.left_out("driver", f"{found}: pictures are made on the CPU.")
    if facts.built_for is None:
        runs = f" supports CUDA {dotted(facts.supports)}" if facts.supports else " can't be tried without torch"
        return Finding.ok("driver", f"The driver {facts.version or ''}".rstrip() + f"{runs}.")
    return Finding.failed("driver", *_cause(facts, facts.built_for))


def _works(facts: DriverFacts) -> str:
    wanted = f"torch's CUDA {dotted(facts.built_for)}" if facts.built_for else "torch"
    if not facts.version:
        return f"The driver works with {wanted}; nvidia-ml-py isn't installed to tell its version."
    if not facts.supports:
        return f"The driver {facts.version} works with {wanted}."
    return f"The driver {facts.version} supports CUDA {dotted(facts.supports)} and works with {wanted}."


def _cause(facts: DriverFacts, built_for: tuple[int, int]) -> tuple[str, str]:
    """Why torch can't use a GPU that is in place, and what to do about it."""
    needed = OLDEST_DRIVER.get(built_for[0])
    installable = f"driver {needed} or newer" if needed else "the newest driver"
    of_version = f" {facts.version}" if facts.version else ""
    if _hides(facts):
        return (
            f"CUDA_VISIBLE_DEVICES is {facts.visible!r}, which hides every GPU from torch.",
            "Unset it, or name a GPU that `nvidia-smi -L` lists.",
        )
    if facts.nvml == "mismatch":
        return (
            "The driver was updated while it was loaded: its library and its kernel module are of two versions.",
            "Restart the machine, or load the new kernel module.",
        )
    is_old = facts.supports is not None and facts.supports[0] < built_for[0]
    if is_old or "driver on your system is too old" in facts.problem:
        runs = f" supports CUDA up to {dotted(facts.supports)}" if facts.supports else ""
        older = f", or install a torch built for CUDA {facts.supports[0]}" if facts.supports else ""
        return (
            f"The driver{of_version}{runs or ' is too old'}, and torch is built for CUDA {dotted(built_for)}.",
            f"Install NVIDIA's {installable}{older}.",
        )
    is_absent = facts.nvml in ("no library", "not loaded") or "Found no NVIDIA driver" in facts.problem
    if facts.is_loaded and (is_absent or facts.given == 0):
        return (
            "The machine has a GPU and a loaded driver, but this container was given neither.",
            "Start it with the GPU: `docker run --gpus all`, or nvidia.com/gpu in Kubernetes' limits.",
        )
    if facts.nvml == "not loaded":
        return (
            "The driver is installed, but its kernel module isn't loaded.",
            "Load it with `modprobe nvidia`, or restart the machine; `dmesg` says why if that fails.",
        )
    if is_absent:
        return (
            "There is an NVIDIA GPU, but no driver for it, or this container was given none.",
            f"Install NVIDIA's {installable}, and start containers with `--gpus all`.",
        )
    if "system not yet initialized" in facts.problem:
        return (
            "The GPUs are linked by NVSwitch, and the Fabric Manager that links them isn't running.",
            "Start nvidia-fabricmanager, of the driver's own version.",
        )
    return (
        f"There are a GPU and a driver{of_version}, but CUDA doesn't start: {facts.problem.rstrip('.')}.",
        "See whether `nvidia-smi` lists the GPU and what `dmesg` says of it; restart the machine if it hangs.",
    )


def _hides(facts: DriverFacts) -> bool:
    """CUDA takes the devices that are named before the first one that there isn't."""
    if facts.visible is None:
        return False
    first = facts.visible.split(",")[0].strip()
    if first.isdecimal():
        return int(first) >= (facts.given or facts.on_bus)
    return not first.startswith(("GPU-", "MIG-"))


def _try_cuda() -> tuple[bool, str]:
    """Whether torch finds a GPU, and what it says if not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say, `init` says too
        if torch.cuda.is_available():
            return True, ""
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            return False, first_line(error)
    return False, "no GPU was found"


def _ask_nvml() -> tuple[Nvml, str | None, tuple[int, int] | None, int | None]:
    """What NVML does, and if it answers, the driver's version, the CUDA that it supports, and its GPUs."""
    try:
        import pynvml
    except ImportError:
        return "not installed", None, None, None
    known: dict[int, Nvml] = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no library",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "not loaded",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "mismatch",
    }
    try:
        pynvml.nvmlInit()
        try:
            cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 13000 is CUDA 13.0
            version = str(pynvml.nvmlSystemGetDriverVersion())
            return "answers", version, (cuda // 1000, cuda % 1000 // 10), pynvml.nvmlDeviceGetCount()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return known.get(error.value, "fails"), None, None, None


def _count_on_bus() -> int:
    gpus = 0
    with suppress(OSError):
        for device in PCI.iterdir():
            with suppress(OSError):
                is_nvidia = (device / "vendor").read_text().strip() == NVIDIA
                gpus += is_nvidia and (device / "class").read_text().startswith(DISPLAY)
    return gpus


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)

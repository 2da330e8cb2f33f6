"""What a benchmark says last: what ran it, and everything it measured as JSON."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers


def tell(file: Path | None, *, on_cpu: bool, modules: tuple[ModuleType, ...] = (), **measured: Any) -> None:
    """Print the device and the versions, and write them to `file` with what was measured.

    Args:
        modules: whose versions count beside torch's, diffusers' and transformers'.
    """
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers, *modules)}
    device = device_name(on_cpu=on_cpu)
    print(device, *(f"{name} {version}" for name, version in versions.items()), sep=", ")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"device": device, "versions": versions, **measured}, indent=2) + "\n")


def device_name(*, on_cpu: bool) -> str:
    """What ran a benchmark."""
    if on_cpu or not torch.cuda.is_available():
        return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(0)

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
    versions = _versions(modules)
    print(device_name(on_cpu=on_cpu), *(f"{name} {version}" for name, version in versions.items()), sep=", ")
    if file:
        save(file, on_cpu=on_cpu, modules=modules, **measured)


def save(file: Path, *, on_cpu: bool, modules: tuple[ModuleType, ...] = (), **measured: Any) -> None:
    """Write what was measured so far, with the device and the versions."""
    file.parent.mkdir(parents=True, exist_ok=True)
    what = {"device": device_name(on_cpu=on_cpu), "versions": _versions(modules), **measured}
    file.write_text(json.dumps(what, indent=2) + "\n")


def _versions(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    return {module.__name__: module.__version__ for module in (torch, diffusers, transformers, *modules)}


def device_name(*, on_cpu: bool) -> str:
    """What ran a benchmark."""
    if on_cpu or not torch.cuda.is_available():
        return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(0)

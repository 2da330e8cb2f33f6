"""Whether there is a GPU for torch here, asked without torch, which takes seconds and half a gigabyte to import."""

from __future__ import annotations

import ctypes
import os
import re
from importlib.util import find_spec
from pathlib import Path

DRIVER = "libcuda.so.1"
SUCCESS = 0  # CUDA's driver API, cuda.h


def surely_no_gpu() -> bool:
    """Say whether torch would find none; False also where only torch can tell."""
    build = _build()
    if re.search(r"^hip\b.*=\s*['\"]", build, re.MULTILINE):
        return False
    if re.search(r"^cuda\b.*=\s*None", build, re.MULTILINE):
        return True
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return True
    if os.name != "posix":
        return False
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return True
    count = ctypes.c_int(0)
    return driver.cuInit(0) != SUCCESS or driver.cuDeviceGetCount(ctypes.byref(count)) != SUCCESS or count.value == 0


def _build() -> str:
    """What torch says it was built for."""
    found = find_spec("torch")
    places = found.submodule_search_locations if found is not None else None
    try:
        return (Path(next(iter(places or ()))) / "version.py").read_text(encoding="utf-8")
    except (OSError, StopIteration):
        return ""

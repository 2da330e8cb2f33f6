"""A disk of a test's own that is soon full."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Give the folder that a disk in memory of this size, such as 16k, is mounted at."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as folder:
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk needs root, and the right to")
        try:
            yield Path(folder)
        finally:
            _run("umount", folder)


def grow(disk: Path, size: str) -> None:
    """Give a small disk another size."""
    remount(disk, f"size={size}")


def remount(disk: Path, option: str) -> None:
    """Give a small disk another option of mount(8), such as ro."""
    _run("mount", "-o", f"remount,{option}", str(disk))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

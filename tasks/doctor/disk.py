"""The room on the disks that a run writes to."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from models.files.cache_file import cache_folder
from models.finding import Finding
from models.units import GIB
from tasks.stores.opening import open_store
from tasks.stores.store import StoreAddressError

LITTLE = GIB  # for the kernels that Triton builds, and for the plan and the catalogue on their way
STORE_LITTLE = 10 * GIB  # some thousand pictures


@dataclass(frozen=True)
class DiskFacts:
    """The disk of a folder, which may not be there yet."""

    folder: Path
    free: int  # bytes, for this user
    total: int  # bytes
    is_writable: bool


def read_disk(folder: Path) -> DiskFacts:
    """Ask the file system of a folder, or of the first one above it that is there."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    usage = shutil.disk_usage(there)
    return DiskFacts(folder, usage.free, usage.total, os.access(there, os.W_OK))


def judge_cache(facts: DiskFacts) -> Finding:
    """Say whether checksums of checkpoints and built kernels can be kept."""
    if not facts.is_writable:
        return Finding.warning(
            "cache disk",
            f"{facts.folder} can't be written, so checkpoints are hashed and kernels built again by every run.",
            "Let this user write there, or set XDG_CACHE_HOME to another folder.",
        )
    if facts.free < LITTLE:
        return Finding.warning("cache disk", _room(facts), "Free some space, or set XDG_CACHE_HOME to another folder.")
    return Finding.ok("cache disk", _room(facts))


def judge_store_disk(facts: DiskFacts) -> Finding:
    """Say whether there is room for pictures; the store's own check says whether they can be written."""
    if facts.free < STORE_LITTLE:
        return Finding.warning(
            "store disk", _room(facts), "Free some space: a run ends when its store is full, and goes on from there."
        )
    return Finding.ok("store disk", _room(facts))


def check_disks(store: str) -> list[Finding]:
    """Return the disks of packshot's cache folder, and of the store if it is a folder."""
    findings = [judge_cache(read_disk(cache_folder()))]
    try:
        folder = open_store(store).folder if store else None
    except StoreAddressError:  # the store's own check says so
        return findings
    if folder is not None:
        findings.append(judge_store_disk(read_disk(folder)))
    return findings


def _room(facts: DiskFacts) -> str:
    return f"{facts.free / GIB:.1f} of {facts.total / GIB:.1f} GiB are free for {facts.folder}."

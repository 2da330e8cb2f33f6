"""Whether a node of a cluster has what lanes need there: the same packshot, the same files, and a way to Prefect."""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tasks.lane.lane_spec import LaneSpec
from tasks.stores.opening import open_store

ROOMS = ("flows", "tasks", "models", "safety")
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Needs:
    """What a lane needs of the machine that it works on."""

    code: str  # the digest of packshot's own modules
    files: tuple[str, ...]  # that lie there under the same names
    server: str | None  # the address of Prefect's API


def needs_of(spec: LaneSpec, server: str | None) -> Needs:
    """Return what the lanes of a run need, of all that this machine has."""
    files = {str(path) for path in paths_in([spec.checkpoint, spec.loras, spec.classifiers, spec.result_spec])}
    store = Path(open_store(spec.store, dialect=spec.dialect).uri)
    return Needs(code_digest(), tuple(sorted(files | ({str(store)} if store.is_absolute() else set()))), server)


def lacking(needs: Needs) -> list[str]:
    """Say what this machine lacks, in clauses; nothing where lanes can work here."""
    clauses = [] if needs.code == code_digest() else ["its packshot is another version than the command's"]
    if missing := [file for file in needs.files if not Path(file).exists()]:
        clauses.append(f"it has no {' and no '.join(missing)} (share the folder, or give an s3:// address or hub id)")
    if needs.server is not None and not _answers(needs.server):
        clauses.append(
            f"the Prefect server at {needs.server} can't be reached from there (set PREFECT_API_URL to an address that "
            "every node reaches)"
        )
    return clauses


def machine() -> str:
    """Name this machine and its Python, for people."""
    return f"{socket.gethostname()} (Python {platform.python_version()})"


@cache
def code_digest() -> str:
    """Return another value for any other packshot, installed or from its tree."""
    root, found = Path(__file__).parents[2], hashlib.sha256()
    for file in sorted(file for room in ROOMS for file in (root / room).rglob("*.py")):
        found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def paths_in(value: Any) -> Iterator[Path]:
    """Give the absolute paths in plain values."""
    if isinstance(value, Path):
        if value.is_absolute():
            yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from paths_in(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from paths_in(one)
    elif isinstance(value, Mapping):
        yield from paths_in([*value.values()])


def _answers(server: str) -> bool:
    try:
        return httpx.get(f"{server}/health", timeout=ANSWER_SECONDS).is_success
    except httpx.HTTPError:
        return False

"""Small JSON files in packshot's cache folder: what was found out once and needn't be again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.files.whole_file import appearing_whole

NOWHERE = Path("/nonexistent")  # the home of users that have none: Debian Policy 9.2.3


def cache_folder() -> Path:
    """packshot's folder under XDG_CACHE_HOME (XDG Base Directory Specification 0.8).

    A user without a home has one that isn't there, so that nothing is kept.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    if Path(root).is_absolute():
        return Path(root) / "packshot"
    try:
        home = Path.home()
    except RuntimeError:
        home = NOWHERE
    return home / ".cache" / "packshot"


def recall(file: Path) -> dict[str, Any]:
    """Return what a file holds; nothing where it isn't there or can't be read."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def remember(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, for lanes start side by side; a read-only home costs time, nothing else."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with appearing_whole(file) as writing:
            writing.write(json.dumps(content).encode())

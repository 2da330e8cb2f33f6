"""Small JSON files in packshot's cache folder: what was found out once and needn't be again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """packshot's folder under XDG_CACHE_HOME (XDG Base Directory Specification 0.8)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "packshot"


def recall(file: Path) -> dict[str, Any]:
    """What a file holds; nothing where it isn't there or can't be read."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def remember(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, for lanes start side by side; a read-only home costs time, nothing else."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as part:
            json.dump(content, part)
        Path(part.name).replace(file)

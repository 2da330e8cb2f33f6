"""The inventory of a checkpoint that was pulled: its files, their sizes and hashes, and where they came from.

It lies beside them as `inventory.json`, and is written before the first of them: what is here can be compared with what
should be, at any time and offline.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.files.safetensors_files import CheckpointError, parse_json

INVENTORY = "inventory.json"


@dataclass(frozen=True)
class Entry:
    """One file."""

    size: int  # bytes
    sha256: str  # hex, of the content


@dataclass(frozen=True)
class Inventory:
    """What a checkpoint consists of."""

    origin: str  # the hub id or the address that it was pulled from
    revision: str | None  # the hub's commit, 40 hex digits
    files: Mapping[str, Entry]  # by path relative to the checkpoint, with slashes

    def __str__(self) -> str:
        return f"{self.origin} at {self.revision}" if self.revision else self.origin

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    def encode(self) -> bytes:
        """Return its bytes: the same inventory gives the same bytes, so that two pulls at once agree."""
        files = {path: vars(entry) for path, entry in sorted(self.files.items())}
        content = {"origin": self.origin, "revision": self.revision, "files": files}
        return (json.dumps(content, indent=2) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes, where: str) -> "Inventory":
        """Read what `encode` wrote.

        Raises:
            CheckpointError: if it is something else, or names a file outside of the checkpoint.
        """
        parsed = parse_json(content, where)
        try:
            files = {
                str(path): Entry(int(entry["size"]), str(entry["sha256"])) for path, entry in parsed["files"].items()
            }
            origin, revision = str(parsed["origin"]), parsed["revision"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CheckpointError(f"{where} is no inventory", "remove it, and pull the checkpoint again.") from None
        if not all(is_plain(path) for path in files):
            raise CheckpointError(f"{where} names a file outside its own folder", "don't use this checkpoint.")
        return cls(origin, None if revision is None else str(revision), files)


def read_inventory(folder: Path) -> Inventory | None:
    """Return the inventory in a folder, if there is one.

    Raises:
        CheckpointError: as `Inventory.decode`.
    """
    file = folder / INVENTORY
    return Inventory.decode(file.read_bytes(), str(file)) if file.is_file() else None


def is_plain(path: str) -> bool:
    """Say whether a path of somebody else's listing stays inside the folder that it is put into."""
    parts = PurePosixPath(path).parts
    return path != "" and "/".join(parts) == path and ".." not in parts and not re.search(r"^/|[\\\x00-\x1f\x7f]", path)

"""Whether a checkpoint on disk is what it should be: every file there, right, and safe to load."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.checkpoints.checkpoint import check_folder
from models.files.digest import remember
from models.files.inventory import INVENTORY, Inventory, read_inventory
from models.files.safetensors_files import PICKLES, CheckpointError, called, read_json
from models.transfer.checkpoint_folder import PARTS
from models.transfer.endpoints import Listener, RemoteFile, silent
from models.transfer.hub_cache import cached_files

CODE = (".py", ".pyc", ".so", ".ipynb")
OURS = (PARTS, ".cache", ".git")  # folders beside a checkpoint that nothing is loaded from


@dataclass(frozen=True)
class Findings:
    """What there is to say about a checkpoint."""

    files: int
    size: int  # bytes of them together
    proven: int  # files whose content was compared with a hash that is known of it
    inventory: Inventory | None
    faults: tuple[str, ...]  # sentences; none if it is whole


def verify_folder(folder: Path, listener: Listener = silent, name: str | None = None) -> Findings:
    """Read all of a checkpoint in a folder, and find what is wrong with it.

    Contents are compared with the inventory that `packshot models pull` leaves, or with the names of the hub's cache;
    without either, with what the weights' own headers and indexes promise.

    Args:
        folder: of the checkpoint.
        listener: is told how it gets on.
        name: what sentences call the folder.

    Raises:
        CheckpointError: if there is no checkpoint, not even a part of one.
    """
    name = name or str(folder)
    with called(folder, name):
        inventory = read_inventory(folder)
        if inventory is None and not list(folder.iterdir()):
            check_folder(folder)
    expected = expected_of(inventory) if inventory else cached_files(folder)
    found = [path for path in folder.rglob("*") if path.is_file() and not _is_ours(path.relative_to(folder))]
    faults = _wrong(folder, expected, listener)
    faults += [f"{path} {why}" for path, why in forbidden([path.relative_to(folder).as_posix() for path in found])]
    faults += list(own_code(folder, found))
    faults = faults or structure(folder, name)
    return Findings(len(found), sum(path.stat().st_size for path in found), len(expected), inventory, tuple(faults))


def expected_of(inventory: Inventory) -> list[RemoteFile]:
    """Return the files that an inventory names."""
    return [RemoteFile(path, entry.size, sha256=entry.sha256) for path, entry in inventory.files.items()]


def structure(folder: Path, name: str) -> list[str]:
    """Say what is wrong with a checkpoint by its entry, indexes and headers, in at most one sentence."""
    try:
        with called(folder, name):
            check_folder(folder)
    except CheckpointError as error:
        return [str(error)]
    return []


def forbidden(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the files of a checkpoint that could run code, with what to do about each."""
    for path in sorted(paths):
        if path.endswith(PICKLES):
            yield path, "is a pickle, which can run code when it is opened; remove it."
        elif path.endswith(CODE):
            yield path, "is code, which no checkpoint needs; remove it."


def own_code(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    """Settings that name code of the checkpoint's own for transformers to run (`auto_map`)."""
    for file in sorted(files):
        with suppress(CheckpointError):  # a config that can't be read is another fault
            if file.name.endswith("config.json") and "auto_map" in read_json(file):
                yield f"{file.relative_to(folder).as_posix()} names code of its own (auto_map); use another checkpoint."


def fault(file: RemoteFile, size: int | None, right: bool = True) -> str | None:
    """Say what is wrong with a file, if anything is; its size is None where it isn't there."""
    if size is None:
        return f"{file.path} is missing."
    if size != file.size:
        return f"{file.path} has {size} bytes where it should have {file.size}."
    return None if right else f"{file.path} has another content than it should have."


def _wrong(folder: Path, expected: Sequence[RemoteFile], listener: Listener) -> list[str]:
    def look(file: RemoteFile) -> tuple[str | None, str | None]:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            return None, fault(file, size)
        with path.open("rb") as content:
            sha256, right = file.compare(content, lambda size: listener.moved("check", size))
        return sha256, fault(file, size, right)

    listener.expect("check", sum(file.size for file in expected if (folder / file.path).is_file()), 0)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashlib lets go of the GIL
        looked = list(threads.map(look, expected))
    # What was just read is what the next job and the next pull go by.
    read = {file.path: sha256 for file, (sha256, _) in zip(expected, looked, strict=True) if sha256}
    remember(folder, read)
    return [sentence for _, sentence in looked if sentence]


def _is_ours(path: Path) -> bool:
    return path.parts[0] in OURS or path == Path(INVENTORY)

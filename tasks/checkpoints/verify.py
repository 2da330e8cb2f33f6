"""Whether a checkpoint is whole and safe, wherever it lies: `packshot models verify`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.checkpoints.checkpoint import MINIATURE
from models.checkpoints.clip_names import repository_of
from models.checkpoints.integrity import Findings, expected_of, fault, forbidden, own_code, structure, verify_folder
from models.files.inventory import INVENTORY
from models.files.layout import SETTINGS
from models.files.safetensors_files import MAX_HEADER_BYTES, CheckpointError
from models.files.temporary_folder import temporary_folder
from models.transfer.endpoints import Listener, RemoteFile, silent
from models.transfer.hub import is_hub_id, pinned
from models.transfer.hub_cache import cached
from tasks.checkpoints.stored_checkpoint import StoredCheckpoint
from tasks.stores.opening import is_store_address

READING = 4  # objects at once


def verify(model: str, revision: str | None = None, listener: Listener = silent) -> dict[str, Findings]:
    """Read all of a checkpoint, and say what is wrong with it.

    Args:
        model: a folder, an `s3://` address, a hub id, which is looked for in the hub's cache, or `miniature`.
        revision: the commit of a hub id.
        listener: is told how it gets on.

    Returns:
        what was found, by the checkpoint's name; the miniature is three.

    Raises:
        CheckpointError: if there is no checkpoint, not even a part of one.
        StoreError, StoreAddressError: if a bucket is out of reach, or the address is none.
    """
    if is_store_address(model):
        return {model: _verify_stored(StoredCheckpoint.at(model), listener)}
    if model == "miniature":
        return {f"{model}'s {folder.name}": verify_folder(folder, listener) for folder in sorted(MINIATURE.iterdir())}
    folder = Path(model).expanduser()
    if folder.is_dir():
        return {model: verify_folder(folder, listener)}
    if is_hub_id(model):
        repository = repository_of(model)
        return {model: verify_folder(cached(repository, pinned(repository, revision)), listener, model)}
    raise CheckpointError(f"{model} is no folder, no hub id such as Qwen/Qwen-Image, and no s3:// address", "check it.")


def _verify_stored(stored: StoredCheckpoint, listener: Listener) -> Findings:
    listed, inventory = stored.listed(), stored.inventory()
    listed.pop(INVENTORY, None)
    expected = expected_of(inventory) if inventory else []

    def look(file: RemoteFile) -> str | None:
        size = listed[file.path].size if file.path in listed else None
        if size != file.size:
            return fault(file, size)
        compared = stored.compare(file, lambda moved: listener.moved("check", moved))
        return fault(file, size, right=compared is not None and compared[1])

    listener.expect("check", sum(file.size for file in expected if file.path in listed), 0)
    with ThreadPoolExecutor(READING) as threads:
        faults = [sentence for sentence in threads.map(look, expected) if sentence]
    faults += [f"{path} {why}" for path, why in forbidden(list(listed))]
    with temporary_folder() as folder:
        sketched = [_sketch(stored, path, one.size, folder) for path, one in listed.items()]
        faults += own_code(folder, [file for file in sketched if file])
        faults = faults or structure(folder, stored.uri)
    return Findings(len(listed), sum(one.size for one in listed.values()), len(expected), inventory, tuple(faults))


def _sketch(stored: StoredCheckpoint, path: str, size: int, folder: Path) -> Path | None:
    """Put a file into a folder that looks like the object to whoever reads settings and headers; weights are holes."""
    if not path.endswith((*SETTINGS, ".safetensors")):
        return None
    start = stored.objects.read_at_most(path, size if path.endswith(SETTINGS) else 8) or b""
    if path.endswith(".safetensors"):
        header = 8 + int.from_bytes(start[:8], "little")
        if len(start) < header <= min(size, MAX_HEADER_BYTES):
            start = stored.objects.read_at_most(path, header) or b""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as sparse:
        sparse.write(start[:size])
        sparse.truncate(size)
    return file

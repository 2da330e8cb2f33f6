"""A checkpoint in a store: what a job fetches its model from, or what `packshot models pull` fills."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.files.cache_file import cache_folder
from models.files.inventory import INVENTORY, Inventory
from models.files.safetensors_files import CheckpointError, CheckpointUnreachable
from models.transfer.endpoints import Listener, Moved, RemoteFile
from models.transfer.partial_files import parts_folder
from models.transfer.transfer import AT_ONCE
from tasks.stores.opening import open_store
from tasks.stores.store import Changed, Conflict, ListedObject, Store, StoreUnreachable

LOOKING = 8  # objects that are looked at at once


class StoredCheckpoint:
    """As `models.transfer.transfer` reads and fills it.

    Nothing here is conditional but the inventory: whoever writes the same file writes the same content.
    """

    uploads = True

    def __init__(self, objects: Store) -> None:
        self.objects = objects
        self.uri = self.origin = objects.uri
        self.revision: str | None = None

    @classmethod
    def at(cls, address: str) -> StoredCheckpoint:
        """Return the checkpoint at an address such as `s3://bucket/prefix`. Touches no network.

        Raises:
            StoreAddressError: if it is no such address.
        """
        return cls(open_store(address))

    @property
    def name(self) -> str:
        return self.uri

    def inventory(self) -> Inventory | None:
        found = self.objects.read(INVENTORY)
        return Inventory.decode(found[0], self.objects.uri_of(INVENTORY)) if found else None

    # As a source.

    def files(self) -> list[RemoteFile]:
        listed, inventory = self.listed(), self.inventory()
        if inventory is None:
            return [RemoteFile(path, one.size, version=one.version) for path, one in listed.items()]
        self.origin, self.revision = inventory.origin, inventory.revision
        lacking = [
            path for path, entry in inventory.files.items() if path not in listed or listed[path].size != entry.size
        ]
        if lacking:
            raise CheckpointError(
                f"{self.uri} isn't whole: {len(lacking)} of {len(inventory.files)} files, such as {lacking[0]}, are "
                "missing or cut short",
                "go on with packshot models pull.",
            )
        return [
            RemoteFile(path, entry.size, sha256=entry.sha256, version=listed[path].version)
            for path, entry in inventory.files.items()
        ]

    def fetch(self, file: RemoteFile, part: Path, moved: Moved) -> None:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                self.objects.go_on(file.path, part, size=file.size, version=file.version, moved=moved)
                return
            except Changed as error:
                raise CheckpointUnreachable(f"{error.uri} was changed while it was read", "start again.") from None
            except StoreUnreachable:
                if not part.exists() or part.stat().st_size <= before:
                    raise

    def compare(self, file: RemoteFile, moved: Moved = lambda _: None) -> tuple[str, bool] | None:
        """Read an object through, which goes nowhere: its SHA-256, and whether it is the file; None if it is absent."""
        return self.objects.read_through(file.path, lambda content: file.compare(content, moved))

    # As a destination.

    @contextlib.contextmanager
    def parts(self, listener: Listener) -> Iterator[Path]:
        def busy() -> None:
            listener.say(f"{self.name} is being filled by another pull; waiting for it.")

        folder = cache_folder() / "pulls" / hashlib.sha256(self.uri.encode()).hexdigest()[:32]
        with parts_folder(folder, busy) as parts:
            yield parts

    def present(self, files: Collection[RemoteFile]) -> Mapping[str, str | None]:
        with ThreadPoolExecutor(LOOKING) as threads:
            looked = zip(files, threads.map(self._look, files), strict=True)
        return {file.path: sha256 for file, found in looked if found for sha256 in found}

    def _look(self, file: RemoteFile) -> tuple[str | None] | None:
        """Return the SHA-256 of an object if it is the file, or None; in a tuple, if there is one at all."""
        known = self.objects.look(file.path)
        if known is None:
            return None
        if known.size != file.size:
            return (None,)
        if known.sha256 and file.sha256:
            return (known.sha256 if known.sha256 == file.sha256 else None,)
        compared = self.compare(file)
        return None if compared is None else (compared[0] if compared[1] else None,)

    def make_room(self, sizes: Collection[int], parts: Path) -> None:
        free, wanted = shutil.disk_usage(parts).free, sum(sorted(sizes)[-AT_ONCE:])
        if wanted > free:
            raise CheckpointUnreachable(
                f"{parts} has {free / 1e9:.1f} GB free, and the files that pass through it take {wanted / 1e9:.1f} GB",
                "free some space, or set XDG_CACHE_HOME to another disk.",
            )

    def claim(self, inventory: Inventory) -> None:
        try:
            self.objects.put_once(INVENTORY, inventory.encode())
        except Conflict:
            there = self.inventory()
            if there is not None and (there.origin, there.revision) != (inventory.origin, inventory.revision):
                raise CheckpointError(f"{self.uri} is being filled with {there}", "give another prefix.") from None
            self.objects.overwrite(INVENTORY, inventory.encode())

    def store(self, path: str, part: Path, sha256: str, moved: Moved) -> None:
        self.objects.upload(path, part, sha256=sha256, moved=moved)
        part.unlink()

    def listed(self) -> dict[str, ListedObject]:
        """Return what lies there, by path.

        Raises:
            CheckpointError: if nothing does.
        """
        found = {one.path: one for one in self.objects.listing("")}
        if not found:
            raise CheckpointError(f"There is nothing at {self.uri}", "check the address, or pull a checkpoint to it.")
        return found

"""A folder that a checkpoint is put into: on this machine, or shared by several."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from models.files.digest import hashes, remember
from models.files.inventory import INVENTORY, Inventory, read_inventory
from models.files.safetensors_files import CheckpointUnreachable
from models.transfer.endpoints import Listener, Moved, RemoteFile
from models.transfer.partial_files import parts_folder

PARTS = ".pull"  # inside the folder: a part gets its place by being renamed


class CheckpointFolder:
    """A folder as `models.transfer.transfer` fills it.

    Whoever looks into it meanwhile finds whole files, and no entry before the end.
    """

    uploads = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored: dict[str, str] = {}  # SHA-256 by path: a job that opens the folder needn't read it all again

    @property
    def name(self) -> str:
        return str(self.folder)

    @contextlib.contextmanager
    def parts(self, listener: Listener) -> Iterator[Path]:
        def busy() -> None:
            listener.say(f"{self.name} is being filled by another pull; waiting for it.")

        with parts_folder(self.folder / PARTS, busy) as parts:
            try:
                yield parts
            finally:
                remember(self.folder, self._stored)

    def inventory(self) -> Inventory | None:
        return read_inventory(self.folder)

    def present(self, files: Collection[RemoteFile]) -> Mapping[str, str | None]:
        there = {file.path: file for file in files if (self.folder / file.path).is_file()}
        sized = [self.folder / path for path, file in there.items() if (self.folder / path).stat().st_size == file.size]
        found = hashes(self.folder, sized)
        return {path: found.get(path) if self._is(file, found.get(path)) else None for path, file in there.items()}

    def _is(self, file: RemoteFile, sha256: str | None) -> bool:
        if sha256 is None or file.sha256 is not None or file.git_blob is None:
            return sha256 is not None and file.sha256 in (None, sha256)
        with (self.folder / file.path).open("rb") as content:
            return file.compare(content)[1]

    def make_room(self, sizes: Collection[int], parts: Path) -> None:
        free, wanted = shutil.disk_usage(parts).free, sum(sizes)
        if wanted > free:
            raise CheckpointUnreachable(
                f"{self.name} has {free / 1e9:.1f} GB free, and {wanted / 1e9:.1f} GB are still to come",
                "free some space or give another folder.",
            )

    def claim(self, inventory: Inventory) -> None:
        if self.inventory() != inventory:
            part = self.folder / PARTS / INVENTORY
            part.write_bytes(inventory.encode())
            self._place(INVENTORY, part)

    def store(self, path: str, part: Path, sha256: str, moved: Moved) -> None:  # noqa: ARG002  a rename moves nothing
        self._place(path, part)
        self._stored[path] = sha256

    def _place(self, path: str, part: Path) -> None:
        """Give a part its name, and have both down on the disk: whoever sees an entry can rely on what came before."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("rb") as content:
            os.fsync(content.fileno())
        part.replace(place)
        for folder in {place.parent, self.folder}:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with contextlib.suppress(OSError):  # some network mounts don't sync folders
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

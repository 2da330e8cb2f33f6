"""Where checkpoints come from and where they are put, the files that move between, and who is told of it."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from models.files.inventory import Inventory

PIECE = 1 << 20  # bytes read at a time

Step = Literal["fetch", "store", "check"]
Moved = Callable[[int], None]
"""Told of bytes that moved; of fewer than none where some have to move again."""


class Listener(Protocol):
    """Who is told how a transfer gets on, from whatever thread moves something."""

    def expect(self, step: Step, size: int, done: int) -> None:
        """So many bytes are to be moved in this step, and so many of them have been."""

    def moved(self, step: Step, size: int) -> None:
        """So many bytes more were moved."""

    def say(self, sentence: str) -> None:
        """Something happened that a person would wonder about."""


class Silent:
    """Tells nobody."""

    def expect(self, step: Step, size: int, done: int) -> None:
        pass

    def moved(self, step: Step, size: int) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


silent = Silent()
listening: ContextVar[Listener] = ContextVar("listening", default=silent)
"""Who is told when a job has to fetch its checkpoint first."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a source, and what is known of its content."""

    path: str  # relative to the checkpoint, with slashes
    size: int  # bytes
    sha256: str | None = None  # hex
    git_blob: str | None = None  # hex; the SHA-1 that git gives it, which a hub knows of small files instead
    version: str | None = None  # an object's ETag

    @property
    def part(self) -> str:
        """The name of its part: another content never goes on with this one's."""
        identity = f"{self.path} {self.size} {self.sha256 or self.git_blob or self.version}"
        return f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.part"

    def compare(self, content: BinaryIO, moved: Moved = lambda _: None) -> tuple[str, bool]:
        """Read a content through: its SHA-256, and whether it is this file's as far as that is known."""
        sha256, git_blob, size = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size), 0
        while piece := content.read(PIECE):
            size += len(piece)
            sha256.update(piece)
            if self.git_blob:
                git_blob.update(piece)
            moved(len(piece))
        found = sha256.hexdigest()
        right = self.sha256 in (None, found) and self.git_blob in (None, git_blob.hexdigest())
        return found, right and size == self.size


class Source(Protocol):
    """A place that a checkpoint comes from."""

    @property
    def origin(self) -> str:
        """What the inventory says it comes from."""

    @property
    def revision(self) -> str | None:
        """The commit that the inventory says it comes from."""

    def files(self) -> list[RemoteFile]:
        """Return all files that are there.

        Raises:
            CheckpointError: if there is no such checkpoint.
            CheckpointUnreachable: if nobody answers.
        """

    def fetch(self, file: RemoteFile, part: Path, moved: Moved) -> None:
        """Bring `part` to the size of the file, going on from what it holds already.

        Raises:
            CheckpointUnreachable: if nothing comes any more; the part keeps what came.
        """


class Destination(Protocol):
    """A place that a checkpoint is put in."""

    @property
    def name(self) -> str:
        """What a sentence calls it."""

    @property
    def uploads(self) -> bool:
        """Whether bytes move when a part is stored."""

    def parts(self, listener: Listener) -> AbstractContextManager[Path]:
        """Give a folder for parts, for this transfer alone; what is left in it after a failure is there the
        next time.
        """

    def inventory(self) -> Inventory | None:
        """Return the inventory of what is there, if there is one."""

    def present(self, files: Collection[RemoteFile]) -> Mapping[str, str | None]:
        """Which of the files are there: path → SHA-256, or None where the content is another."""

    def make_room(self, sizes: Collection[int], parts: Path) -> None:
        """Check that files of these sizes, in bytes, have room.

        Raises:
            CheckpointUnreachable: if not.
        """

    def claim(self, inventory: Inventory) -> None:
        """Write the inventory, before any file of it.

        Raises:
            CheckpointError: if somebody else has put another one there meanwhile.
        """

    def store(self, path: str, part: Path, sha256: str, moved: Moved) -> None:
        """Put a part into its place, whole; the part is gone afterwards."""

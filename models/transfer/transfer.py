"""A checkpoint on its way from a hub or a bucket into a folder or a bucket: whole in the end, or resumed.

    inventory = transfer(source, CheckpointFolder(folder), listener)

Every file is fetched into a part beside its place, compared with the hash that the source promises, and only then put
there; the checkpoint's entry, without which nobody takes it for one, comes last. What a torn connection or an ended
process leaves of a part is gone on with.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from models.files.inventory import Entry, Inventory, is_plain
from models.files.layout import needed
from models.files.safetensors_files import CheckpointError, CheckpointUnreachable, called, read_json
from models.files.temporary_folder import temporary_folder
from models.transfer.endpoints import Destination, Listener, Moved, RemoteFile, Source, Step, silent

T = TypeVar("T")

AT_ONCE = 4  # files that are on their way
TRIES = 2  # at a file's content


class Abandoned(Exception):  # noqa: N818
    """Another file failed, or a person pressed Ctrl-C: this one isn't needed any more."""


def transfer(
    source: Source,
    destination: Destination,
    listener: Listener = silent,
    *,
    glance: Callable[[Path], object] = lambda _: None,
    given_up: threading.Event | None = None,
) -> Inventory:
    """Bring the files that a checkpoint needs from a source to a destination; those that are there stay.

    Args:
        source: where it comes from.
        destination: where it is put; a checkpoint of another origin or revision is never mixed with this one.
        listener: is told how it gets on.
        glance: raises CheckpointError for a folder with the entry alone, if that isn't of the wanted kind.
        given_up: is set when the transfer fails, to end whatever a thread of it waits for.

    Raises:
        CheckpointError: if the source has no such checkpoint, or the destination holds another.
        CheckpointUnreachable: if either doesn't answer or is full, or if the content stays wrong.
    """
    listed = {file.path: file for file in source.files() if is_plain(file.path)}
    name = f"{source.origin} at {source.revision}" if source.revision else source.origin

    with temporary_folder() as begun:

        def settings(path: str) -> dict[str, Any]:
            file = begun / path
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                fetch(source, listed[path], file, listener)
            return read_json(file)

        with called(begun, name):
            files = [listed[path] for path in needed(listed, settings, name)]
            settings(files[-1].path)
            glance(begun)
    entry = files[-1]
    _refuse_another(source, destination)
    with destination.parts(listener) as parts:
        _refuse_another(source, destination)  # that was pulled while we waited
        present = destination.present(files)
        stranger = next((path for path, sha256 in present.items() if sha256 is None), None)
        if stranger and destination.inventory() is None:
            raise CheckpointError(
                f"{destination.name} holds another {stranger} than {name}", "give a folder or prefix of its own."
            )
        hashes = {path: sha256 for path, sha256 in present.items() if sha256} | {
            file.path: file.sha256 for file in files if file.sha256
        }
        missing = [file for file in files if not present.get(file.path)]
        moving = _Moving(source, destination, parts, listener, given_up or threading.Event())
        moving.expect(missing)
        destination.make_room([file.size - moving.begun(file) for file in missing], parts)
        # The inventory is written before the files, and a hub knows small ones by another hash: they are fetched first.
        hashes |= moving.each(moving.fetch, [file for file in files if file.path not in hashes])
        inventory = Inventory(source.origin, source.revision, {f.path: Entry(f.size, hashes[f.path]) for f in files})
        destination.claim(inventory)
        moving.each(moving.take, [file for file in missing if file is not entry])
        moving.each(moving.take, [file for file in missing if file is entry])
    return inventory


def fetch(source: Source, file: RemoteFile, part: Path, listener: Listener, moved: Moved = lambda _: None) -> str:
    """Bring a file into `part`, once more if it arrives damaged, and give its SHA-256.

    Raises:
        CheckpointUnreachable: if its content stays another than the source promises.
    """
    for tries_left in reversed(range(TRIES)):
        source.fetch(file, part, moved)
        with part.open("rb") as content:
            sha256, right = file.compare(content)
        if right:
            return sha256
        moved(-part.stat().st_size)
        part.unlink()
        if tries_left:
            listener.say(f"{file.path} arrived damaged; fetching it again.")
    raise CheckpointUnreachable(
        f"{file.path} of {source.origin} arrived damaged {TRIES} times", "try again later, or from another place."
    )


def _refuse_another(source: Source, destination: Destination) -> None:
    there = destination.inventory()
    if there is not None and (there.origin, there.revision) != (source.origin, source.revision):
        raise CheckpointError(f"{destination.name} holds {there}", "give another place, or remove that one first.")


class _Moving:
    """Threads that move the files of one transfer."""

    def __init__(
        self, source: Source, destination: Destination, parts: Path, listener: Listener, given_up: threading.Event
    ) -> None:
        self.source, self.destination, self.parts = source, destination, parts
        self.listener, self.given_up = listener, given_up
        self.proven: dict[str, str] = {}  # SHA-256 of parts that are whole, by path

    def begun(self, file: RemoteFile) -> int:
        """How many bytes of a file its part holds."""
        part = self.parts / file.part
        size = part.stat().st_size if part.exists() else 0
        if size > file.size:
            part.unlink()
        return size if size <= file.size else 0

    def expect(self, files: list[RemoteFile]) -> None:
        size, done = sum(file.size for file in files), sum(map(self.begun, files))
        if size:
            self.listener.expect("fetch", size, done)
            if self.destination.uploads:
                self.listener.expect("store", size, 0)

    def each(self, step: Callable[[RemoteFile], T], files: Iterable[RemoteFile]) -> dict[str, T]:
        """Do a step with every file, some at once; the first failure ends them all."""
        results = {}
        with ThreadPoolExecutor(AT_ONCE, "checkpoint") as threads:
            try:
                going = {threads.submit(step, file): file for file in files}
                for future in as_completed(going):
                    results[going[future].path] = future.result()
            except BaseException:
                self.given_up.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return results

    def moved(self, step: Step) -> Moved:
        def tell(size: int) -> None:
            if self.given_up.is_set():
                raise Abandoned
            self.listener.moved(step, size)

        return tell

    def fetch(self, file: RemoteFile) -> str:
        """Bring a file's part here, and give its SHA-256."""
        sha256 = fetch(self.source, file, self.parts / file.part, self.listener, self.moved("fetch"))
        self.proven[file.path] = sha256
        return sha256

    def take(self, file: RemoteFile) -> None:
        """Bring a file to where it belongs."""
        sha256 = self.proven.get(file.path) or self.fetch(file)
        self.destination.store(file.path, self.parts / file.part, sha256, self.moved("store"))

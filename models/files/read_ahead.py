"""Weights brought into the page cache before they are asked for.

Libraries map a safetensors file into memory and copy tensor after tensor: each copy waits for the disk, page by page,
and the disk waits for each copy. Large reads of several threads ahead of them keep the disk at its own rate.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

CHUNK_BYTES = 16 << 20  # of one read
THREADS = 8
MEMORY_SHARE = 0.5  # what is read first must still be there when it is needed

_read: ContextVar[frozenset[Path]] = ContextVar("read", default=frozenset())  # by a block around this one


@contextmanager
def reading_ahead(files: Sequence[Path]) -> Iterator[None]:
    """Read `files` in the background, in this order, while the block loads them.

    Nothing depends on it: where they would fill more than half of the host's memory, or can't be read, the block finds
    them as they are. What hasn't been read at the end of the block isn't. Blocks may lie in one another: what the outer
    one reads, the inner one leaves to it.
    """
    files = [file for file in files if file not in _read.get()]
    if sum(file.stat().st_size for file in files) > MEMORY_SHARE * host_memory():
        yield
        return
    over = threading.Event()

    def read(chunk: tuple[Path, int]) -> None:
        if not over.is_set():
            read_chunk(*chunk)

    with ThreadPoolExecutor(THREADS, "read-ahead") as threads:
        for chunk in chunks_of(files):
            threads.submit(read, chunk)  # whoever loads the file says what is wrong with it
        outer = _read.set(_read.get() | frozenset(files))
        try:
            yield
        finally:
            _read.reset(outer)
            over.set()


def chunks_of(files: Sequence[Path]) -> list[tuple[Path, int]]:
    """Return where to begin reading: files and offsets in bytes, in order."""
    return [(file, start) for file in files for start in range(0, file.stat().st_size, CHUNK_BYTES)]


def read_chunk(file: Path, start: int) -> int:
    """Read a chunk and forget it; it stays in the page cache. Returns how many bytes it has."""
    with file.open("rb", buffering=0) as content:
        content.seek(start)
        return len(content.read(CHUNK_BYTES))


def host_memory() -> int:
    """Bytes of the host's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

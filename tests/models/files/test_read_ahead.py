from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.files import read_ahead
from models.files.read_ahead import reading_ahead


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """The chunks that were read; one thread, four bytes a chunk."""
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(read_ahead, "CHUNK_BYTES", 4)
    monkeypatch.setattr(read_ahead, "THREADS", 1)
    monkeypatch.setattr(read_ahead, "read_chunk", lambda file, start: seen.append((file.name, start)))
    return seen


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "b").write_bytes(b"123456789")
    (tmp_path / "a").write_bytes(b"1234")
    return [tmp_path / "b", tmp_path / "a"]


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Waits until everything that was begun to be read has been."""
    submit, waiting = ThreadPoolExecutor.submit, []
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda *args: waiting.append(submit(*args)))
    return lambda: [future.result() for future in waiting].clear()


def test_every_chunk_is_read_once_in_the_order_of_loading(
    files: list[Path], read: list[tuple[str, int]], finished: Callable[[], None]
) -> None:
    with reading_ahead(files):
        finished()
    assert read == [("b", 0), ("b", 4), ("b", 8), ("a", 0)]


def test_what_does_not_fit_half_of_memory_is_left_alone(
    files: list[Path], read: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "host_memory", lambda: 25)  # the files have 13 bytes
    with reading_ahead(files):
        pass
    assert read == []


def test_what_an_outer_block_reads_is_left_to_it(
    files: list[Path], read: list[tuple[str, int]], finished: Callable[[], None]
) -> None:
    with reading_ahead(files[:1]), reading_ahead(files):
        finished()
    assert sorted(read) == [("a", 0), ("b", 0), ("b", 4), ("b", 8)]
    with reading_ahead(files[:1]):
        finished()
    assert len(read) == 4 + 3  # a block after it reads by itself again


def test_a_file_that_cannot_be_read_harms_nobody(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(read_ahead, "read_chunk", fail)
    with reading_ahead(files):
        pass


def test_reading_ends_with_the_block_even_after_an_exception(files: list[Path]) -> None:
    with pytest.raises(KeyError), reading_ahead(files):
        raise KeyError

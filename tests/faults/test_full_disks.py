"""A disk that is full, can't be written, or isn't there ends a run in a sentence, and the same command goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.engines.generator import Generator
from models.files.temporary_folder import NoTemporaryRoom, temporary_folder
from tasks.job import GenerateJob
from tasks.runs.prepare import RunRequest, estimate
from tasks.stores.opening import open_store
from tasks.stores.store import StoreError
from tests.end_to_end.conftest import catalogue, manifest, prefect_api, run
from tests.small_disk import grow, remount, small_disk

__all__ = ["manifest", "prefect_api"]  # fixtures

ROWS = [{"id": f"r{n:02}", "prompt": f"a red mug number {n}"} for n in range(16)]


def test_a_store_that_is_full_ends_the_run_and_gets_the_rest_when_it_has_room(manifest: Callable[..., str]) -> None:
    file = manifest(ROWS)
    with small_disk("200k") as disk:
        store = open_store(str(disk))
        with pytest.raises(StoreError, match=rf"{disk} is full \(No space left on device\)"):
            run(file, store, shard_rows=4, batch=2)
        before = {path: path.stat().st_mtime_ns for path in disk.glob("masters/*/*/*.png")}
        grow(disk, "20m")

        run(file, store, shard_rows=4, batch=2)

        assert before
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert {row["status"] for row in catalogue(store).values()} == {"done"}


def test_a_folder_for_temporary_files_that_is_full_is_named(
    manifest: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest([{"id": f"r{n:05}", "prompt": os.urandom(40).hex()} for n in range(2000)])
    request = RunRequest(GenerateJob.of(manifest=file, store=str(tmp_path / "store")))
    with small_disk("16k") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        sentence = rf"The folder for temporary files, {disk}, is full \(No space left on device\)"
        with pytest.raises(NoTemporaryRoom, match=sentence):
            estimate(request)
        assert not list(disk.iterdir())
        grow(disk, "20m")
        assert estimate(request).plan_counts.to_do == 2000


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("full", r"The folder for temporary files, {disk}, is full \(No space left on device\)"),
        ("read-only", r"No folder for temporary files can be made \(Read-only file system\): set TMPDIR"),
    ],
)
def test_a_folder_for_temporary_files_that_fails_during_a_run_ends_it_and_the_next_goes_on(
    manifest: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, sentence: str
) -> None:
    file, store = manifest(ROWS[:4]), open_store(str(tmp_path / "store"))
    real, made = Generator.render, []

    with small_disk("1m") as disk:
        if trouble == "read-only":
            remount(disk, "ro")
        else:
            (disk / "ballast").write_bytes(bytes(1 << 20))

        def render(self: Generator, requests: Any, **more: Any) -> Iterator[Any]:
            monkeypatch.setattr(tempfile, "tempdir", str(disk))
            for pictures in real(self, requests, **more):
                made.append(len(pictures))
                yield pictures

        monkeypatch.setattr(Generator, "render", render)
        with pytest.raises(NoTemporaryRoom, match=sentence.format(disk=disk)):
            run(file, store, batch=2)
        remount(disk, "rw")
        (disk / "ballast").unlink(missing_ok=True)

        run(file, store, batch=2)

    assert sum(made) == 4
    assert {row["status"] for row in catalogue(store).values()} == {"done"}


def test_a_disk_that_is_full_where_an_object_is_downloaded_to_is_not_taken_for_the_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    for size in (8 << 10, 3 << 20):
        store.overwrite("object", bytes(size))
        with small_disk("4k") as disk, pytest.raises(OSError, match="No space left") as full:
            store.download("object", disk / "file")
        assert str(full.value.filename).startswith(str(disk))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_quota_that_is_used_up_is_a_disk_that_is_full(number: int) -> None:
    with pytest.raises(NoTemporaryRoom, match="is full"), temporary_folder():
        raise OSError(number, os.strerror(number))


def test_other_trouble_in_a_temporary_folder_is_not_taken_for_a_full_disk() -> None:
    with pytest.raises(PermissionError), temporary_folder():
        raise PermissionError(errno.EACCES, "no")


def test_a_command_without_a_place_for_temporary_files_ends_in_a_sentence(
    manifest: Callable[..., str], tmp_path: Path
) -> None:
    script = "import sys, tempfile; tempfile.tempdir = 'absent'; from flows.command import main; main()"
    words = ["generate", manifest(ROWS[:1]), "--store", str(tmp_path / "store"), "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    sentence = "No folder for temporary files can be made (No such file or directory): set TMPDIR"
    assert (ended.returncode, ended.stderr) == (3, f"{sentence} to one that can be written.\n")
